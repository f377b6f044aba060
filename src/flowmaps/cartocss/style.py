"""What a layer's stylesheet compiles to: styles of rules of symbolizers, still without XML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from flowmaps.cartocss.reference import nearest
from flowmaps.cartocss.source import Message

_SCALES = (
    1_000_000_000, 500_000_000, 200_000_000, 100_000_000, 50_000_000, 25_000_000, 12_500_000,
    6_500_000, 3_000_000, 1_500_000, 750_000, 400_000, 200_000, 100_000,
    50_000, 25_000, 12_500, 5_000, 2_500, 1_500, 750,
    500, 250, 100, 50, 25, 12.5,
)  # fmt: skip


def scale_above(zoom: int) -> str:
    """Return the scale denominator that bounds *zoom* from above; it bounds the zoom before from below."""
    return f"{_SCALES[zoom]:g}" if zoom == len(_SCALES) - 1 else str(_SCALES[zoom])


@dataclass(frozen=True, slots=True)
class Symbolizer:
    """One symbolizer of a rule: XML name, attributes, text content and ``<stop>`` children."""

    name: str
    instance: str
    attributes: Mapping[str, str]
    text: str | None = None
    stops: tuple[tuple[tuple[str, str], ...], ...] = ()
    fontset: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Symbolizers for the features that a filter holds for, between two scale denominators."""

    filter: str
    max_scale: str | None
    min_scale: str | None
    symbolizers: tuple[Symbolizer, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """Rules of which the first that holds is drawn; one per attachment."""

    name: str
    attributes: Mapping[str, str]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class LayerStyle:
    """A compiled layer; *styles* are in drawing order, the bottom one first."""

    layer_id: str
    styles: tuple[Style, ...]
    map_properties: Mapping[str, str] = field(default_factory=dict)
    fontsets: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    column_uses: Mapping[str, Message] = field(default_factory=dict)

    def missing_columns(self, known: Iterable[str]) -> list[Message]:
        """Return an error, at its first use and with a suggestion, for each column that *known* lacks."""
        names = list(known)
        found = []
        for name in self.columns:
            if name not in names:
                closest = nearest(name, names, below=min(4, len(name) // 2 + 1))
                text = f'column "{name}" does not exist' + (f". Did you mean {closest}?" if closest else "")
                found.append(replace(self.column_uses.get(name, Message("error", "")), severity="error", text=text))
        return found
