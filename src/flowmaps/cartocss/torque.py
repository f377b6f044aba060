"""Read the style of a torque layer: how its data are counted, and the marker that one cell's value gets.

Such a style is never compiled for Mapnik. ``Map {}`` holds the ``-torque-`` properties; every other rule draws markers,
may filter by ``value`` and ``zoom``, and by ``frame-offset`` for what an earlier frame leaves behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flowmaps.cartocss.cascade import ALL_ZOOMS, ZOOMS, Definition, flatten, in_order
from flowmaps.cartocss.color import Color
from flowmaps.cartocss.compiler import DEFAULT_PPI, prepare
from flowmaps.cartocss.evaluate import Evaluator, Problem, first_definitions
from flowmaps.cartocss.expressions import NotAnExpression, Scalar, compile_expression
from flowmaps.cartocss.filters import FilterSet, field_clause
from flowmaps.cartocss.parser import parse
from flowmaps.cartocss.reference import color_channels, load_reference
from flowmaps.cartocss.source import CartoError, Limits, Report
from flowmaps.cartocss.tree import CallNode, FilterNode, Node, ZoomNode
from flowmaps.cartocss.values import UNDEFINED, Call, Field, Items, Keyword, Number, String, Value

DEFAULT_BUFFER_PX = 32
LARGEST_SPRITE_PX = 255
LARGEST_FRAME_OFFSET = 32
MOST_FRAMES = 65_536
"""Frame numbers of a tile are 16 bits wide."""
_LEAST_LINE_PX = 0.05
_PREFIX = "TorqueRenderer: "
_FRAME = "frame-offset"
_CHECKED = (
    ("-torque-frame-count", "number", True),
    ("-torque-resolution", "number", True),
    ("-torque-animation-duration", "number", False),
    ("-torque-aggregation-function", "string", True),
    ("-torque-time-attribute", "string", True),
    ("-torque-data-aggregation", "string", False),
)
"""The properties in the order in which they are checked: name, type, and whether a style must have it."""
_MARKER = frozenset(
    (
        "marker-width", "marker-fill", "marker-fill-opacity", "marker-opacity", "marker-line-color",
        "marker-line-width", "marker-line-opacity", "marker-type", "marker-file", "point-file", "comp-op",
        "image-filters",
    )
)  # fmt: skip

Rgba = tuple[int, int, int, float]


@dataclass(frozen=True, slots=True)
class TorqueProperties:
    """What the ``Map`` block says; *resolution* is a cell's side in tile pixels, *buffer_px* that of images."""

    steps: int
    resolution: float
    countby: str
    column: str
    animation_seconds: float | None
    is_cumulative: bool
    buffer_px: int


@dataclass(frozen=True, slots=True)
class TorqueSymbol:
    """A marker: *radius* in pixels, colours with their alpha; *image* is the address of a marker file."""

    radius: float
    fill: Rgba | None
    line: Rgba | None
    line_width: float
    is_square: bool
    image: str | None


@dataclass(frozen=True, slots=True)
class TorqueRule:
    """Properties for the values and zooms that a selector matches."""

    filters: FilterSet
    zooms: int
    properties: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class TorqueLayer:
    """One attachment; *rules* come most specific first, *offsets* are the frames back that it draws."""

    rules: tuple[TorqueRule, ...]
    offsets: tuple[int, ...]
    comp_op: str
    colors: tuple[Rgba, ...]

    def symbol(self, value: float, zoom: int, offset: int) -> TorqueSymbol | None:
        """Return the marker of a cell with *value*, or None where nothing is drawn."""
        feature: dict[str, Scalar] = {"value": value, "zoom": zoom, _FRAME: offset}
        chosen: dict[str, Value] = {}
        for rule in self.rules:
            if rule.zooms >> min(zoom, ZOOMS - 1) & 1 and rule.filters.holds(feature):
                for name, given in rule.properties:
                    chosen.setdefault(name, given)
        return _symbol(chosen, feature)


@dataclass(frozen=True, slots=True)
class TorqueStyle:
    """A torque layer's style; *layers* are in drawing order, *files* the marker files that it may need."""

    properties: TorqueProperties
    layers: tuple[TorqueLayer, ...]
    files: tuple[str, ...]


def compile_torque(css: str, *, stylesheet: str = "style0", limits: Limits | None = None) -> TorqueStyle:
    """Return the style of a torque layer; raise `CartoError`."""
    report = prepare(css, version="3.0.12", layer_id="layer", limits=limits or Limits(), stylesheet=stylesheet)
    reader = _Reader(report)
    properties = reader.properties()
    layers = reader.layers()
    report.stop()
    return TorqueStyle(properties, layers, tuple(dict.fromkeys(reader.files)))


class _Reader:
    def __init__(self, report: Report) -> None:
        self._report = report
        sheet = parse(report)
        variables, _ = first_definitions(sheet)
        self._reference = load_reference()
        self._evaluator = Evaluator(variables, self._reference, DEFAULT_PPI)
        self._definitions = flatten(sheet, report, self._read_filter, self._read_zoom)
        self.files: list[str] = []

    def _read_filter(self, filters: FilterSet, node: FilterNode) -> FilterSet | None:
        value = self._value(node.value, node.offset)
        if value is None:
            return None
        if not isinstance(node.key, str) or node.operator == "=~":
            self._report.error("A filter of a torque style compares value or frame-offset with a constant", node.offset)
            return None
        if node.key == _FRAME and not (
            node.operator == "=" and isinstance(value, Number) and 1 <= value.value <= LARGEST_FRAME_OFFSET
        ):
            text = f"frame-offset must equal a number between 1 and {LARGEST_FRAME_OFFSET}"
            self._report.error(text, node.offset)
            return None
        match value:
            case Number(number):
                return filters.add(field_clause(node.key, node.operator, "number", number, value.text))
            case String(text) if node.operator in ("=", "!="):
                return filters.add(field_clause(node.key, node.operator, "string", text, repr(text)))
            case _:
                self._report.error(f'Cannot use operator "{node.operator}" with value {value.text}', node.offset)
                return None

    def _read_zoom(self, node: ZoomNode) -> int:
        value = self._value(node.value, node.offset)
        if not isinstance(value, Number) or node.operator == "=~":
            self._report.error("A zoom filter needs a number", node.offset)
            return ALL_ZOOMS
        clause = field_clause("zoom", node.operator, "number", value.value, value.text)
        limit = FilterSet((clause,))
        return sum(1 << zoom for zoom in range(ZOOMS) if limit.holds({"zoom": zoom}))

    def _value(self, node: Node, offset: int) -> Value | None:
        try:
            return self._evaluator.evaluate(node)
        except Problem as problem:
            self._report.error(problem.text, problem.offset or offset)
            return None

    def properties(self) -> TorqueProperties:
        """Return what ``Map`` says; of two blocks the first one counts, within one the last declaration."""
        found: dict[str, tuple[Value, int]] = {}
        for definition in self._definitions:
            if definition.is_map:
                block: dict[str, tuple[Value, int]] = {}
                for declaration in definition.declarations:
                    if declaration.property.startswith("-torque-") and isinstance(declaration.value, CallNode):
                        # An aggregation without quotes reads as a call; that is a value of the wrong type.
                        block[declaration.property] = (UNDEFINED, declaration.offset)
                        continue
                    value = self._value(declaration.value, declaration.offset)
                    if value is not None:
                        block[declaration.property] = (value, declaration.offset)
                found = block | found
        self._report.stop()
        for name, kind, is_required in _CHECKED:
            self._check(found.get(name), name, kind, is_required=is_required)
        duration = found.get("-torque-animation-duration")
        aggregation = found.get("-torque-data-aggregation")
        buffer = found.get("buffer-size")
        return TorqueProperties(
            steps=int(_number_of(found["-torque-frame-count"][0])),
            resolution=_number_of(found["-torque-resolution"][0]),
            countby=_text_of(found["-torque-aggregation-function"][0]),
            column=_text_of(found["-torque-time-attribute"][0]),
            animation_seconds=None if duration is None else _number_of(duration[0]),
            is_cumulative=aggregation is not None and _text_of(aggregation[0]) == "cumulative",
            buffer_px=max(0, min(256, round(_number_of(buffer[0]))))
            if buffer is not None and isinstance(buffer[0], Number)
            else DEFAULT_BUFFER_PX,
        )

    def _check(self, given: tuple[Value, int] | None, name: str, kind: str, *, is_required: bool) -> None:
        if given is None:
            if is_required:
                raise self._refuse(f"Missing required property '{name}' in torque layer CartoCSS", None)
            return
        value, offset = given
        fits = isinstance(value, Number) if kind == "number" else isinstance(value, String | Keyword)
        if not fits:
            raise self._refuse(f"Unexpected type for property '{name}', expected {kind}", offset)
        if name == "-torque-frame-count" and not 1 <= _number_of(value) < MOST_FRAMES:
            raise self._refuse(f"Property '{name}' must be between 1 and {MOST_FRAMES - 1}", offset)
        if name == "-torque-resolution" and not 0.25 <= _number_of(value) <= 256:
            raise self._refuse(f"Property '{name}' must be between 0.25 and 256", offset)
        if name == "-torque-data-aggregation" and _text_of(value) not in ("linear", "cumulative"):
            raise self._refuse(f"Unexpected value for property '{name}', expected linear or cumulative", offset)

    def _refuse(self, text: str, offset: int | None) -> CartoError:
        return _TorqueError([self._report.message("error", _PREFIX + text, offset)])

    def layers(self) -> tuple[TorqueLayer, ...]:
        by_name: dict[str, list[Definition]] = {}
        for definition in self._definitions:
            if not definition.is_map:
                by_name.setdefault(definition.attachment, []).append(definition)
        ordered = sorted(by_name.values(), key=lambda items: min(item.specificity for item in items))
        return tuple(self._layer(definitions) for definitions in ordered)

    def _layer(self, definitions: list[Definition]) -> TorqueLayer:
        rules = tuple(self._rule(definition) for definition in in_order(definitions))
        # Frame 0 is the present one; rules without a frame hold for every frame that the style draws.
        offsets = {0}
        for rule in rules:
            offsets |= {int(clause.value) for clause in rule.filters.clauses if clause.key == _FRAME}
        whole: dict[str, Value] = {}
        for rule in rules:
            for name, value in rule.properties:
                whole.setdefault(name, value)
        comp_op = whole.get("comp-op")
        return TorqueLayer(
            rules=rules,
            offsets=tuple(sorted(offsets)),
            comp_op="src-over" if comp_op is None else comp_op.text,
            colors=_gradient(whole.get("image-filters")),
        )

    def _rule(self, definition: Definition) -> TorqueRule:
        properties: dict[str, Value] = {}
        for declaration in definition.declarations:
            name = declaration.property
            if name not in _MARKER and name not in self._reference.properties and not name.startswith("-torque-"):
                self._report.error(f"Unrecognized rule: {name}", declaration.offset)
                continue
            value = self._value(declaration.value, declaration.offset)
            if value is None or name not in _MARKER:
                continue
            if isinstance(value, Field):
                _check_expression(value, self._report, declaration.offset)
            if name in ("marker-file", "point-file"):
                self.files.append(value.text)
            properties[name] = value
        return TorqueRule(definition.filters, definition.zooms, tuple(properties.items()))


class _TorqueError(CartoError):
    """Says what is wrong with the properties of the map; the message has no position, as clients know it."""

    @property
    def message(self) -> str:
        return self.messages[0].text


def _check_expression(value: Field, report: Report, offset: int) -> None:
    try:
        compile_expression(value.text)
    except NotAnExpression:
        report.error(f"{value.text} is not an expression", offset)


def _number_of(value: Value) -> float:
    return value.value if isinstance(value, Number) else math.nan


def _text_of(value: Value) -> str:
    return value.text


def _symbol(chosen: Mapping[str, Value], feature: Mapping[str, Scalar]) -> TorqueSymbol | None:
    radius = _evaluated(chosen.get("marker-width"), feature)
    if radius is None or radius <= 0:
        return None
    opacity = _evaluated(chosen.get("marker-opacity"), feature)
    fill_opacity = _first(opacity, _evaluated(chosen.get("marker-fill-opacity"), feature), 1.0)
    line_opacity = _first(opacity, _evaluated(chosen.get("marker-line-opacity"), feature), 1.0)
    line_width = _first(_evaluated(chosen.get("marker-line-width"), feature), 0.0)
    has_line = line_width > _LEAST_LINE_PX and line_opacity > 0
    file = chosen.get("marker-file") or chosen.get("point-file")
    fill = _rgba(chosen.get("marker-fill"), fill_opacity) if fill_opacity > 0 else None
    line = _rgba(chosen.get("marker-line-color"), line_opacity) if has_line else None
    if fill is None and line is None and file is None:
        return None
    kind = chosen.get("marker-type")
    return TorqueSymbol(
        radius=min(radius, LARGEST_SPRITE_PX),
        fill=fill,
        line=line,
        line_width=min(line_width, LARGEST_SPRITE_PX) if line else 0.0,
        is_square=kind is not None and kind.text == "rectangle",
        image=None if file is None else file.text,
    )


def _first(*values: float | None) -> float:
    return next((value for value in values if value is not None), 0.0)


def _evaluated(value: Value | None, feature: Mapping[str, Scalar]) -> float | None:
    match value:
        case Number(number):
            return number
        case Field(text):
            result = compile_expression(text)(feature)
            is_number = isinstance(result, int | float) and math.isfinite(result)
            return float(result) if is_number and result is not None else None
        case _:
            return None


def _rgba(value: Value | None, opacity: float) -> Rgba | None:
    if isinstance(value, Keyword) and (named := color_channels(value.text)) is not None:
        return round(named[0]), round(named[1]), round(named[2]), named[3] * min(1.0, opacity)
    if isinstance(value, Color):
        return (*value.channels, value.alpha * min(1.0, opacity))
    return None


def _gradient(value: Value | None) -> tuple[Rgba, ...]:
    """Return the colours of ``colorize-alpha(…)``, or none."""
    calls = value.items if isinstance(value, Items) else (value,)
    for call in calls:
        if isinstance(call, Call) and call.name == "colorize-alpha":
            colors = [_rgba(argument, 1.0) for argument in call.arguments]
            return tuple(color for color in colors if color is not None)
    return ()


__all__ = ["TorqueLayer", "TorqueProperties", "TorqueStyle", "TorqueSymbol", "compile_torque"]
