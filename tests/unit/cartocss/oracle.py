"""The meaning of a stylesheet, evaluated directly for one feature and one zoom; an oracle apart from the compiler.

A sheet is built here as plain data (`Block`, `Selector`, `Declaration`), printed as CartoCSS for the compiler, and
evaluated from the data: nothing of the compiler is used, not even its parser. `draw_rules` says what compiled rules draw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Value = float | bool | str | None
Feature = Mapping[str, Value]
Drawing = list[tuple[str, dict[str, str]]]
"""Symbolizers in drawing order: name in XML, attributes."""

PROPERTIES = {
    "line-width": ("LineSymbolizer", "stroke-width"),
    "line-offset": ("LineSymbolizer", "offset"),
    "line-miterlimit": ("LineSymbolizer", "stroke-miterlimit"),
    "marker-width": ("MarkersSymbolizer", "width"),
    "marker-height": ("MarkersSymbolizer", "height"),
    "marker-max-error": ("MarkersSymbolizer", "max-error"),
    "polygon-gamma": ("PolygonSymbolizer", "gamma"),
    "polygon-simplify": ("PolygonSymbolizer", "simplify"),
    "building-height": ("BuildingSymbolizer", "height"),
}
STYLE_LEVEL = {"opacity": "opacity", "comp-op": "comp-op"}
MAX_ZOOM = 25
EQUATOR_SCALE = 559_082_264.028  # scale denominator of zoom 0 for tiles of 256 pixels of 0.28 mm


@dataclass(frozen=True)
class Filter:
    key: str
    operator: str
    value: Value

    def text(self) -> str:
        if self.value is None:
            value = "null"
        elif isinstance(self.value, bool):
            value = "true" if self.value else "false"
        elif isinstance(self.value, str):
            value = f'"{self.value}"'
        else:
            value = f"{self.value:g}"
        return f"[{self.key}{self.operator}{value}]"

    def holds(self, value: Value) -> bool:
        return holds(self.operator, value, self.value)


def holds(operator: str, value: Value, constant: Value) -> bool:
    """Compare as Mapnik does: text with text, numbers with numbers (true is 1), null only with null.

    Null is neither equal nor unequal to the empty text.
    """
    value, constant = (float(item) if isinstance(item, bool) else item for item in (value, constant))
    if operator == "=~":
        return (
            re.fullmatch(str(constant), "" if value is None else f"{value:g}" if isinstance(value, float) else value)
            is not None
        )
    if operator in ("=", "!="):
        same = type(value) is type(constant) and value == constant
        return same if operator == "=" else not same and not (value is None and constant == "")
    if isinstance(value, float) and isinstance(constant, float):
        return {"<": value < constant, "<=": value <= constant, ">": value > constant, ">=": value >= constant}[
            operator
        ]
    return False


@dataclass(frozen=True)
class Zoom:
    operator: str
    value: int

    def text(self) -> str:
        return f"[zoom{self.operator}{self.value}]"

    def holds(self, zoom: int) -> bool:
        return holds(self.operator, float(zoom), float(self.value))


@dataclass(frozen=True)
class Selector:
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    zooms: tuple[Zoom, ...] = ()
    attachment: str = ""

    def text(self) -> str:
        parts = [f"#{name}" for name in self.ids] + [f".{name}" for name in self.classes]
        parts += [item.text() for item in self.filters] + [item.text() for item in self.zooms]
        return "".join(parts) + (f"::{self.attachment}" if self.attachment else "") or "*"


@dataclass(frozen=True)
class Declaration:
    instance: str
    property: str
    value: str

    def text(self) -> str:
        return f"{self.instance}/{self.property}: {self.value};" if self.instance else f"{self.property}: {self.value};"


@dataclass(frozen=True)
class Block:
    selectors: tuple[Selector, ...]
    items: tuple[Declaration | Block, ...]

    def text(self, indent: str = "") -> str:
        head = ", ".join(selector.text() for selector in self.selectors)
        body = "".join(
            item.text(indent + "  ") if isinstance(item, Block) else f"{indent}  {item.text()}\n" for item in self.items
        )
        return f"{indent}{head} {{\n{body}{indent}}}\n"


Sheet = Sequence[Block]


def print_sheet(sheet: Sheet) -> str:
    return "".join(block.text() for block in sheet)


@dataclass(frozen=True)
class _Placed:
    declaration: Declaration
    place: int


@dataclass
class _Definition:
    """A block with one combination of selectors."""

    selectors: tuple[Selector, ...]
    declarations: list[_Placed] = field(default_factory=list)

    @property
    def filters(self) -> list[Filter]:
        return [item for selector in self.selectors for item in selector.filters]

    @property
    def zooms(self) -> list[Zoom]:
        return [item for selector in self.selectors for item in selector.zooms]

    @property
    def attachment(self) -> str:
        return "/".join(selector.attachment for selector in self.selectors if selector.attachment)

    @property
    def specificity(self) -> tuple[int, int, int, int]:
        return (
            sum(len(selector.ids) for selector in self.selectors),
            sum(len(selector.classes) for selector in self.selectors),
            len(self.filters) + len(self.zooms),
            self.declarations[0].place,
        )

    def matches(self, layer_id: str, classes: Sequence[str]) -> bool:
        return all(name == layer_id for selector in self.selectors for name in selector.ids) and all(
            name in classes for selector in self.selectors for name in selector.classes
        )

    def is_possible(self) -> bool:
        return is_satisfiable(self.filters) and any(self.reaches(zoom) for zoom in range(MAX_ZOOM + 1))

    def reaches(self, zoom: int) -> bool:
        return all(item.holds(zoom) for item in self.zooms)

    def holds(self, feature: Feature) -> bool:
        return all(item.holds(feature.get(item.key)) for item in self.filters)


def is_satisfiable(filters: Sequence[Filter]) -> bool:
    """Tell whether some feature satisfies all filters; regular expressions are taken to be satisfiable."""
    for key in {item.key for item in filters}:
        same = [item for item in filters if item.key == key and item.operator != "=~"]
        candidates: list[Value] = [None, "a text that no filter names", 1e9, -1e9]
        for item in same:
            if isinstance(item.value, float):
                candidates += [item.value - 0.125, item.value, item.value + 0.125]
            else:
                candidates.append(item.value)
        if not any(all(item.holds(candidate) for item in same) for candidate in candidates):
            return False
    return True


def clashes(sheet: Sheet) -> bool:
    """Tell whether a selector contradicts itself, which is an error."""
    return any(
        any(not is_satisfiable(selector.filters) for selector in block.selectors)
        or clashes([item for item in block.items if isinstance(item, Block)])
        for block in sheet
    )


class Oracle:
    """One sheet for one layer."""

    def __init__(self, sheet: Sheet, layer_id: str, classes: Sequence[str]) -> None:
        self._place = 0
        found: list[_Definition] = []
        for block in sheet:
            self._flatten(block, [()], found)
        matching = [item for item in found if item.matches(layer_id, classes) and item.is_possible()]
        self._by_attachment: dict[str, list[_Definition]] = {}
        for definition in matching:
            self._by_attachment.setdefault(definition.attachment, []).append(definition)
        for definitions in self._by_attachment.values():
            definitions.sort(key=lambda item: item.specificity, reverse=True)

    def _flatten(self, block: Block, parents: list[tuple[Selector, ...]], found: list[_Definition]) -> None:
        own = [(*parent, selector) for selector in block.selectors for parent in parents]
        # Contradictions with a parent are dropped with all that is inside.
        own = [chain for chain in own if _Definition(chain).is_possible()]
        start = len(found)
        if any(isinstance(item, Declaration) for item in block.items):
            found += [_Definition(chain) for chain in own]
        mine = found[start:]
        for item in block.items:
            if isinstance(item, Block):
                self._flatten(item, own, found)
            else:
                self._place += 1
                for definition in mine:
                    definition.declarations.append(_Placed(item, self._place))

    def attachments(self) -> list[str]:
        """Return the attachments in drawing order; of those in one comma list the last is drawn first."""

        def first(name: str) -> int:
            return min(placed.place for item in self._by_attachment[name] for placed in item.declarations)

        names = list(self._by_attachment)
        names.reverse()
        return sorted(names, key=first)

    def draw(self, attachment: str, feature: Feature, zoom: int) -> Drawing:
        """Return what is drawn for one feature and zoom."""
        winners: dict[tuple[str, str], _Placed] = {}
        for definition in self._by_attachment[attachment]:
            if definition.reaches(zoom) and definition.holds(feature):
                for placed in definition.declarations:
                    winners.setdefault((placed.declaration.instance, placed.declaration.property), placed)
        groups: dict[tuple[str, str], list[_Placed]] = {}
        for (instance, name), placed in winners.items():
            if name in PROPERTIES:
                groups.setdefault((instance, PROPERTIES[name][0]), []).append(placed)
        ordered = sorted(groups.items(), key=lambda item: min(placed.place for placed in item[1]))
        return [
            (name, {PROPERTIES[placed.declaration.property][1]: placed.declaration.value for placed in members})
            for (_, name), members in ordered
        ]

    def style_attributes(self, attachment: str) -> dict[str, str]:
        """Return what holds for the whole attachment, whatever the feature and zoom."""
        chosen: dict[str, str] = {}
        for definition in self._by_attachment[attachment]:
            for placed in definition.declarations:
                if placed.declaration.property in STYLE_LEVEL:
                    chosen.setdefault(STYLE_LEVEL[placed.declaration.property], placed.declaration.value)
        return chosen


_CLAUSE = re.compile(
    r"\(\[([^\]]+)\](?: (=|!=|<|<=|>|>=) ('(?:[^'\\]|\\.)*'|null|true|false|-?[\d.e+-]+)|\.match\('((?:[^'\\]|\\.)*)'\))\)"
)


def filter_holds(text: str, feature: Feature) -> bool:
    """Evaluate a compiled rule's filter as Mapnik does."""
    at = 0
    result = True
    while at < len(text):
        if at:
            assert text.startswith(" and ", at), text
            at += len(" and ")
        match = _CLAUSE.match(text, at)
        assert match is not None, text
        value = feature.get(match[1])
        if match[4] is not None:
            result = result and holds("=~", value, match[4])
        elif match[3] == "null":
            result = result and holds(match[2], value, None)
        elif match[3] in ("true", "false"):
            result = result and holds(match[2], value, match[3] == "true")
        elif match[3].startswith("'"):
            result = result and holds(match[2], value, match[3][1:-1])
        else:
            result = result and holds(match[2], value, float(match[3]))
        at = match.end()
    return result


def draw_rules(rules: Sequence[tuple[str, str | None, str | None, Drawing]], feature: Feature, zoom: int) -> Drawing:
    """Return what the first rule that holds draws; a rule is (filter, largest scale, smallest scale, symbolizers)."""
    scale = EQUATOR_SCALE / 2**zoom
    for text, largest, smallest, drawing in rules:
        if (
            (largest is None or scale < float(largest))
            and (smallest is None or scale >= float(smallest))
            and filter_holds(text, feature)
        ):
            return drawing
    return []
