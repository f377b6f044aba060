"""Check each value against its property, and print it as Mapnik reads it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flowmaps.cartocss.color import Color, round_half_up
from flowmaps.cartocss.expressions import fields, is_expression
from flowmaps.cartocss.reference import TRANSFORMS, Property, color_channels
from flowmaps.cartocss.values import Call, Field, Items, Keyword, Number, String, Uri, Value, print_number, quote

MAX_SIZE_PX = 4096
MAX_BLUR_PX = 64
MAX_IMAGE_FILTERS = 8
MIN_DASH_PX = 0.1
MIN_SPACING_PX = 1.0
MAX_BUFFER_PX = 1024
MAX_ADDRESS_CHARS = 2048

_RATIO = re.compile(r"(^|-)(opacity|gamma|smooth)$")
_NUMERIC = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")
_SIZES = re.compile(r"(^|-)(width|height|size|radius)$")
_BYTE, _SHARE, _UNIT = r"\s*\d{1,3}\s*", r"\s*\d{1,3}(?:\.\d+)?%\s*", r"\s*(?:0|1|0?\.\d+|[01]\.\d+)\s*"
_COLOR_TEXT = re.compile(
    r"#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})"
    rf"|rgb\({_BYTE},{_BYTE},{_BYTE}\)|rgb\({_SHARE},{_SHARE},{_SHARE}\)|rgba\({_BYTE},{_BYTE},{_BYTE},{_UNIT}\)"
    rf"|hsl\({_BYTE},{_SHARE},{_SHARE}\)|hsla\({_BYTE},{_SHARE},{_SHARE},{_UNIT}\)"
)
"""Colours in strings, in the forms that Mapnik reads."""
_VARIABLE = re.compile(r"@([A-Za-z0-9_-]+)")
_GOOD_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEMENTS = re.compile(r"(?:N|S|E|W|NE|NW|SE|SW|X)(?:,(?:N|S|E|W|NE|NW|SE|SW|X))*(?:,\d+(?:\.\d+)?)*")
_ELEMENT = re.compile(r"</?\s*(?:Format|Layout|Placement)\b", re.IGNORECASE)
_MODES = ("discrete", "linear", "exact", "inherit", "linear-rgba", "linear-bgra")
_TRANSFORM = re.compile(r"\s*([A-Za-z]+)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*,?")
_IPV6_HOST = re.compile(r"\[[0-9a-fA-F:.]+\](?::\d+)?")
_WITH_FIELD = "an address must not hold a field, as each of its values would be another download"
_BUILT_IN_SHAPES = ("shape://ellipse", "shape://arrow")

Resolve = Callable[[str], str]
"""The name of a file in a style → the file, or the address itself where somebody will fetch it."""
CheckAddress = Callable[[str], object]
"""Raises `RefusedResource` for an address that nobody will fetch."""
CheckExpression = Callable[[str], object]


class BadValue(Exception):
    """The value does not fit; *text* replaces the common message where it is not empty."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text


class RefusedResource(ValueError):
    """A resolver does not hand out this file; the text says why."""


@dataclass(frozen=True, slots=True)
class Printed:
    """A value as Mapnik reads it, with what else must be known of it."""

    text: str
    fonts: tuple[str, ...] = ()
    stops: tuple[tuple[tuple[str, str], ...], ...] = ()
    columns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    expression: bool = False


@dataclass(slots=True)
class Checker:
    """Print values for properties; *resolve* hands out files, *check_expression* raises on what Mapnik refuses.

    *variables* are those that are set while a map is drawn, or None where any may be.
    """

    resolve: Resolve
    check_expression: CheckExpression | None
    variables: frozenset[str] | None = None
    warnings: list[str] = field(default_factory=list)

    def print(self, known: Property, value: Value) -> Printed:
        """Return *value* as Mapnik reads it for the property; raise `BadValue`."""
        self.warnings = []
        printed = self._print(known, value)
        if printed.expression:
            self._expression(printed.text)
        return Printed(
            printed.text,
            printed.fonts,
            printed.stops,
            tuple(fields(printed.text)) if printed.expression or "[" in printed.text else (),
            printed.files,
            tuple(self.warnings),
            printed.expression,
        )

    def _print(self, known: Property, value: Value) -> Printed:
        kind = known.type
        if isinstance(kind, tuple):
            return self._enumeration(known, kind, value)
        match kind:
            case "float" | "unsigned":
                return self._number(known, value)
            case "boolean":
                return self._boolean(known, value)
            case "color":
                return self._color(known, value)
            case "numbers":
                return self._numbers(known, value)
            case "uri":
                return self._uri(known, value)
            case "tags":
                return self._stops(value)
            case "functions":
                return self._image_filters(value) if known.is_image_filter else self._transform(known, value)
            case "string" if known.font:
                return self._fonts(value)
            case "string":
                return self._string(known, value)
            case _:
                raise BadValue

    # --- scalars

    def _number(self, known: Property, value: Value) -> Printed:
        expression = known.expression or known.css.endswith(("wrap-width", "ratio"))
        match value:
            case Number(number, unit):
                if unit == "%":
                    if not _RATIO.search(known.css):
                        raise BadValue(f"Invalid value for {known.css}, a percentage is not allowed here")
                    number /= 100
                return Printed(print_number(self._within(known, self._finite(number))))
            case Field(text) if expression:
                return Printed(text, expression=True)
            case String(text) if _NUMERIC.fullmatch(text.strip()):
                return Printed(print_number(self._within(known, self._finite(float(text)))))
            case String(text) if expression and _is_dynamic(text):
                return Printed(text, expression=True)
            case _:
                raise BadValue

    def _finite(self, number: float) -> float:
        if not math.isfinite(number):
            raise BadValue("the number is not finite")
        return number

    def _within(self, known: Property, number: float) -> float:
        """Clamp what would make a tile slow or fill memory."""
        if known.type == "unsigned":
            if number < 0:
                raise BadValue
            number = round_half_up(number)
        if known.css == "buffer-size":
            if number < 0:
                raise BadValue("Invalid value for buffer-size, it must be 0 or more")
            if number > MAX_BUFFER_PX:
                self.warnings.append(f"buffer-size is cut to {MAX_BUFFER_PX}")
            return round_half_up(min(number, MAX_BUFFER_PX))
        if _SIZES.search(known.css) and abs(number) > MAX_SIZE_PX:
            self.warnings.append(f"{known.css} is cut to {MAX_SIZE_PX}")
            return math.copysign(MAX_SIZE_PX, number)
        if known.css in ("marker-spacing", "line-pattern-spacing") and 0 < number < MIN_SPACING_PX:
            self.warnings.append(f"{known.css} is raised to {print_number(MIN_SPACING_PX)}")
            return MIN_SPACING_PX
        if known.css == "raster-colorizer-epsilon" and number <= 0:
            raise BadValue("Invalid value for raster-colorizer-epsilon, it must be above 0")
        return number

    def _boolean(self, known: Property, value: Value) -> Printed:
        match value:
            case Keyword("true" | "false") | String("true" | "false"):
                return Printed(value.text)
            case Number(number) if number in (0, 1) and not value.unit:
                return Printed("true" if number else "false")
            case Field(text) if known.expression:
                return Printed(text, expression=True)
            case String(text) if known.expression and _is_dynamic(text):
                return Printed(text, expression=True)
            case _:
                raise BadValue

    def _color(self, known: Property, value: Value) -> Printed:
        match value:
            case Color():
                return Printed(value.text)
            case String(text) if _COLOR_TEXT.fullmatch(text.strip()) or color_channels(text.strip().lower()):
                return Printed(text.strip())
            case Field(text) if known.expression:
                return Printed(text, expression=True)
            case String(text) if known.expression and _is_dynamic(text):
                return Printed(text, expression=True)
            case Keyword(text) if text == known.default:
                return Printed(text)
            case _:
                raise BadValue

    def _enumeration(self, known: Property, words: Sequence[str], value: Value) -> Printed:
        match value:
            case Keyword(text) | String(text) if text in words:
                return Printed(known.rewrite.get(text, text))
            case Color() | Number() if value.text in words:
                return Printed(value.text)
            case Field(text) if known.expression:
                return Printed(text, expression=True)
            case String(text) if known.expression and _is_dynamic(text):
                return Printed(text, expression=True)
            case _:
                raise BadValue

    # --- lists

    def _numbers(self, known: Property, value: Value) -> Printed:
        items = value.items if isinstance(value, Items) and value.separator == "," else (value,)
        if known.css == "line-dash-offset" and len(items) != 1:
            raise BadValue
        if known.expression and len(items) == 1 and isinstance(value, Field):
            return Printed(value.text, expression=True)
        if isinstance(value, String):
            parts = [part.strip() for part in value.text.split(",")]
            if not all(_NUMERIC.fullmatch(part) for part in parts):
                raise BadValue
            items = tuple(Number(float(part)) for part in parts)
        numbers: list[float] = []
        for item in items:
            if not isinstance(item, Number) or item.unit == "%" or (item.value < 0 and known.css != "line-dash-offset"):
                raise BadValue
            numbers.append(self._finite(item.value))
        if known.css != "line-dash-offset":
            numbers = self._dashes(known, numbers)
        return Printed(", ".join(print_number(number) for number in numbers))

    def _dashes(self, known: Property, numbers: list[float]) -> list[float]:
        if sum(numbers) == 0:
            raise BadValue(f"Invalid value for {known.css}, the lengths sum to 0")
        if any(0 < number < MIN_DASH_PX for number in numbers):
            self.warnings.append(f"dash lengths of {known.css} are raised to {MIN_DASH_PX}")
        return [max(number, MIN_DASH_PX) if number else number for number in numbers]

    # --- text

    def _string(self, known: Property, value: Value) -> Printed:
        expression = known.expression
        match value:
            case Field(text) if expression:
                return Printed(text, expression=True)
            case String(text):
                return self._text(known, text) if expression else Printed(text)
            case Keyword(text):
                return self._text(known, text) if expression else Printed(text)
            case _:
                raise BadValue

    def _text(self, known: Property, text: str) -> Printed:
        """Return a string as expression, or as a quoted literal where Mapnik would not read it as expression."""
        if known.css.endswith("-placements") and not _is_dynamic(text):
            if not _PLACEMENTS.fullmatch(text):
                raise BadValue(f"Invalid value for {known.css}, directions (N, NE, X, …) and then sizes are expected")
            return Printed(text)
        if known.css.endswith("wrap-character") or not text:
            return Printed(text)
        if _ELEMENT.search(text):
            raise BadValue(f"Invalid value for {known.css}, <Format> and other elements in a text are not supported")
        if self._reads(text):
            return Printed(text, expression=True)
        if text.lstrip().startswith("@"):
            # Meant as a variable; an @ elsewhere, as in an address, is text like any other.
            self._check_variables(text)
        self.warnings.append(f"{known.css} is no expression and is drawn as it is written")
        return Printed(quote(text), expression=True)

    def _reads(self, text: str) -> bool:
        if self.check_expression is None:
            return is_expression(text)
        try:
            self.check_expression(text)
        except Exception:  # noqa: BLE001  any exception of the given check means that it refuses the text
            return False
        return True

    def _expression(self, text: str) -> None:
        self._check_variables(text)
        if not self._reads(text):
            raise BadValue(f"Mapnik cannot read the expression {text}")

    def _fonts(self, value: Value) -> Printed:
        items = value.items if isinstance(value, Items) and value.separator == "," else (value,)
        names: list[str] = []
        for item in items:
            if not isinstance(item, String | Keyword) or not item.text.strip():
                raise BadValue
            names.append(item.text)
        return Printed(names[0], fonts=tuple(names))

    def _uri(self, known: Property, value: Value) -> Printed:
        if isinstance(value, Keyword) and value.text == known.default and not known.required:
            return Printed(value.text)
        if isinstance(value, Field) and "://" in value.text:
            raise BadValue(f"Unable to download {value.text[:200]}: {_WITH_FIELD}")
        if not isinstance(value, Uri | String) or (known.required and not value.text.strip()):
            raise BadValue
        if not value.text or value.text in _BUILT_IN_SHAPES:
            return Printed(value.text)
        try:
            name = self.resolve(value.text)
        except RefusedResource as problem:
            raise BadValue(str(problem)) from None
        return Printed(name, files=(name,))

    # --- functions

    def _image_filters(self, value: Value) -> Printed:
        if isinstance(value, String | Keyword) and value.text == "none":
            return Printed("")
        items = value.items if isinstance(value, Items) else (value,)
        if len(items) > MAX_IMAGE_FILTERS:
            self.warnings.append(f"only the first {MAX_IMAGE_FILTERS} image filters are used")
        texts: list[str] = []
        for item in items[:MAX_IMAGE_FILTERS]:
            if not isinstance(item, Call) or item.family != "imagefilter":
                raise BadValue
            texts.append(self._image_filter(item))
        return Printed(",".join(texts))

    def _image_filter(self, call: Call) -> str:
        arguments = list(call.arguments)
        if call.name == "colorize-alpha" and not arguments:
            raise BadValue("colorize-alpha() needs at least one colour")
        colors = call.name in ("colorize-alpha", "color-to-alpha")
        for argument in arguments:
            if not isinstance(argument, Color if colors else Number):
                raise BadValue
        if call.name == "agg-stack-blur":
            for index, argument in enumerate(arguments):
                if not isinstance(argument, Number) or argument.value < 0:
                    raise BadValue("the radii of agg-stack-blur are 0 or more")
                arguments[index] = Number(round_half_up(argument.value))
                if argument.value > MAX_BLUR_PX:
                    self.warnings.append(f"the radius of agg-stack-blur is cut to {MAX_BLUR_PX}")
                    arguments[index] = Number(MAX_BLUR_PX)
        return Call(call.name, tuple(arguments), "imagefilter").text

    def _transform(self, known: Property, value: Value) -> Printed:
        match value:
            case String(text):
                self._check_transform(known, text)
                return Printed(text)
            case Call() | Items():
                items = value.items if isinstance(value, Items) else (value,)
                for item in items:
                    if not isinstance(item, Call) or item.family != "transform":
                        raise BadValue
                    if not all(isinstance(argument, Number | Field) for argument in item.arguments):
                        raise BadValue
                return Printed(", ".join(item.text for item in items))
            case _:
                raise BadValue

    def _check_transform(self, known: Property, text: str) -> None:
        at = 0
        stripped = text.strip()
        bad = BadValue(f"Invalid value for {known.css}, Mapnik cannot read the transform {text}")
        if not stripped:
            raise BadValue
        while at < len(stripped):
            match = _TRANSFORM.match(stripped, at)
            if match is None or match[1] not in TRANSFORMS:
                raise bad
            if _is_dynamic(match[2]):
                self._check_variables(match[2])
                arguments = [part.strip() for part in match[2].split(",")]
                readable = all(part and self._reads(part) for part in arguments)
            else:
                arguments = [part for part in re.split(r"[\s,]+", match[2].strip()) if part]
                readable = all(_NUMERIC.fullmatch(part) for part in arguments)
            if not readable or len(arguments) not in TRANSFORMS[match[1]]:
                raise bad
            at = match.end()

    def _check_variables(self, text: str) -> None:
        """Refuse render-time variables that Mapnik cannot read or nobody sets; text inside quotes is not looked at."""
        for match in _VARIABLE.finditer(re.sub(r"'(?:\\.|[^'\\])*'|\[[^\]]*\]", "", text)):
            if not _GOOD_VARIABLE.fullmatch(match[1]):
                raise BadValue(f"Mapnik cannot read the variable @{match[1]}: only letters, digits and _ are allowed")
            if self.variables is not None and match[1] not in self.variables:
                known = ", ".join(f"@{name}" for name in sorted(self.variables)) or "none"
                raise BadValue(f"Invalid value: the variable @{match[1]} is not set while drawing (known: {known})")

    def _stops(self, value: Value) -> Printed:
        items = value.items if isinstance(value, Items) else (value,)
        stops: list[tuple[tuple[str, str], ...]] = []
        last = -math.inf
        for item in items:
            if not isinstance(item, Call) or item.family != "tag":
                raise BadValue
            number, *rest = item.arguments
            if not isinstance(number, Number):
                raise BadValue
            if number.value <= last:
                raise BadValue("the values of raster-colorizer-stops must ascend")
            last = number.value
            stops.append((("value", number.text), *_stop_attributes(rest)))
        return Printed("", stops=tuple(stops))


def _stop_attributes(rest: Sequence[Value]) -> list[tuple[str, str]]:
    attributes: list[tuple[str, str]] = []
    for argument in rest:
        if isinstance(argument, Color) and not attributes:
            attributes.append(("color", argument.text))
        elif isinstance(argument, Keyword) and argument.text in _MODES and argument is rest[-1]:
            attributes.append(("mode", argument.text))
        else:
            raise BadValue(f"Invalid stop: {argument.text} is neither a colour nor a mode ({', '.join(_MODES)})")
    return attributes


def _is_dynamic(text: str) -> bool:
    """Tell whether a string holds a field or a render-time variable."""
    return "[" in text or "@" in text


def relative_names(name: str) -> str:
    """Hand out relative names without ``..`` as they are: for looking at a style, not for drawing it on a server."""
    if is_address(name):
        raise _not_fetched(name)
    parts = name.replace("\\", "/").split("/")
    if ":" in name or name.startswith(("/", "~", "\\")) or ".." in parts or parts[0].startswith("["):
        raise _not_an_asset(name)
    return name


def listed_assets(assets: Mapping[str, str], check_address: CheckAddress | None = None) -> Resolve:
    """Return a resolver that hands out the files of *assets*, by name, and refuses everything else.

    Addresses that *check_address* lets pass are handed out as they are; without it all of them are refused.
    A field inside a name is refused too, as data could then name any file.
    """

    def resolve(name: str) -> str:
        if is_address(name):
            _check_address(name, check_address)
            return name
        if name not in assets:
            raise _not_an_asset(name)
        return assets[name]

    return resolve


def is_address(name: str) -> bool:
    """Tell whether a file's name is one that must be fetched."""
    return name.lower().startswith(("http://", "https://"))


def _check_address(name: str, check_address: CheckAddress | None) -> None:
    if check_address is None:
        raise _not_fetched(name)
    # Brackets belong to the host alone: [::1].
    host, _, path = name.partition("://")[2].partition("/")
    if "[" in path or "]" in path or ("[" in host and not _IPV6_HOST.fullmatch(host)):
        raise RefusedResource(f"Unable to download '{name[:200]}': {_WITH_FIELD}")
    if len(name) > MAX_ADDRESS_CHARS:
        raise RefusedResource(f"Unable to download '{name[:200]}…': more than {MAX_ADDRESS_CHARS} characters")
    check_address(name)


def _not_fetched(name: str) -> RefusedResource:
    return RefusedResource(f"Unable to download '{name[:200]}': this server fetches no remote files")


def _not_an_asset(name: str) -> RefusedResource:
    return RefusedResource(f"The file '{name[:200]}' is not one of the files that styles may use here")
