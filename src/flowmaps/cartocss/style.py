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

_FILE_ATTRIBUTES = ("file", "background-image")
"""Attributes of Mapnik's XML that name a file, as far as a style may set them."""


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
    """A compiled layer; *styles* are in drawing order, the bottom one first.

    *files* are those on this machine that it uses. *addresses* are those of other machines, each with the place of its
    first use; nothing can be drawn before `with_files` said where their files are.
    """

    layer_id: str
    styles: tuple[Style, ...]
    map_properties: Mapping[str, str] = field(default_factory=dict)
    fontsets: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    column_uses: Mapping[str, Message] = field(default_factory=dict)
    addresses: Mapping[str, Message] = field(default_factory=dict)

    def with_files(self, files: Mapping[str, str]) -> LayerStyle:
        """Return the style with its *addresses* replaced by the files that *files* names for them."""
        if not self.addresses:
            return self
        styles = tuple(
            replace(style, rules=tuple(_rule_with_files(rule, files) for rule in style.rules)) for style in self.styles
        )
        return replace(self, styles=styles, map_properties=_with_files(self.map_properties, files), addresses={})

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


def _rule_with_files(rule: Rule, files: Mapping[str, str]) -> Rule:
    symbolizers = tuple(
        replace(symbolizer, attributes=_with_files(symbolizer.attributes, files)) for symbolizer in rule.symbolizers
    )
    return replace(rule, symbolizers=symbolizers)


def _with_files(attributes: Mapping[str, str], files: Mapping[str, str]) -> Mapping[str, str]:
    """Return *attributes* with addresses replaced; only where a file is meant, as a text may be an address too."""
    if not any(attributes.get(name) in files for name in _FILE_ATTRIBUTES):
        return attributes
    return {name: files.get(value, value) if name in _FILE_ATTRIBUTES else value for name, value in attributes.items()}
