"""The values that expressions evaluate to, and arithmetic between them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from flowmaps.cartocss.color import Color, from_rgb
from flowmaps.cartocss.tree import Operator

_QUOTE = re.compile(r"(\\.)|'", re.DOTALL)
SUM, PRODUCT, ATOM = 0, 1, 2


class ArithmeticProblem(Exception):
    """The operands do not fit the operator; the text is the message."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its unit, or an empty unit."""

    value: float
    unit: str = ""

    @property
    def kind(self) -> str:
        return "float"

    @property
    def text(self) -> str:
        return print_number(self.value)


@dataclass(frozen=True, slots=True)
class String:
    """A string as written: escapes are not decoded, Mapnik does that."""

    text: str

    @property
    def kind(self) -> str:
        return "string"


@dataclass(frozen=True, slots=True)
class Keyword:
    text: str

    @property
    def kind(self) -> str:
        return "boolean" if self.text in ("true", "false") else "keyword"


@dataclass(frozen=True, slots=True)
class Field:
    """A Mapnik expression that holds fields: a bare ``[x]`` or arithmetic; *level* is its loosest operator."""

    text: str
    level: int = ATOM

    @property
    def kind(self) -> str:
        return "field"


@dataclass(frozen=True, slots=True)
class Uri:
    text: str

    @property
    def kind(self) -> str:
        return "uri"


@dataclass(frozen=True, slots=True)
class Call:
    """A function that Mapnik computes: a transform, an image filter, or a colorizer's stop."""

    name: str
    arguments: tuple[Value, ...]
    family: Literal["transform", "imagefilter", "tag"]
    size: int = 1

    @property
    def kind(self) -> str:
        return "call" if self.family == "transform" else self.family

    @property
    def text(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({','.join(argument.text for argument in self.arguments)})"


@dataclass(frozen=True, slots=True)
class Items:
    """Values side by side, or between commas."""

    items: tuple[Value, ...]
    separator: Literal[" ", ","]
    size: int = 1

    @property
    def kind(self) -> str:
        return "list"

    @property
    def text(self) -> str:
        return (", " if self.separator == "," else " ").join(item.text for item in self.items)


@dataclass(frozen=True, slots=True)
class Undefined:
    """What a failed evaluation gives; it silences further messages about the same value."""

    @property
    def kind(self) -> str:
        return "undefined"

    @property
    def text(self) -> str:
        return ""


def size_of(value: Value) -> int:
    """Return how many plain values *value* holds."""
    return value.size if isinstance(value, Items | Call) else 1


Value = Number | String | Keyword | Field | Uri | Call | Items | Undefined | Color
UNDEFINED = Undefined()


def print_number(value: float) -> str:
    """Return the shortest text that gives *value* back, in JavaScript's spelling."""
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    mantissa, _, exponent = f"{Decimal(text):e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = int(exponent)
    return f"{mantissa}e{'+' if power > 0 else '-'}{abs(power)}"


def quote(text: str) -> str:
    """Return *text* as a string literal of Mapnik's expressions; what is escaped already stays so."""
    return "'" + _QUOTE.sub(lambda match: match[1] or "\\'", text) + "'"


def operate(operator: Operator, left: Value, right: Value) -> Value:
    """Return *left operator right*; raise `ArithmeticProblem` where the kinds do not fit."""
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return UNDEFINED
    if isinstance(left, Field) or isinstance(right, Field):
        return _fields(operator, left, right)
    if isinstance(left, Number) and isinstance(right, Number):
        return _numbers(operator, left, right)
    if isinstance(left, Color) and isinstance(right, Color | Number):
        return _colors(operator, left, right)
    if isinstance(left, Number) and isinstance(right, Color):
        if operator in "+*":
            return _colors(operator, right, left)
        raise ArithmeticProblem("Can't substract or divide a color from a number")
    if isinstance(left, String):
        if operator == "+" and isinstance(right, String | Number | Color | Keyword):
            return String(left.text + right.text)
        raise ArithmeticProblem("Can't subtract, divide, or multiply strings.")
    raise ArithmeticProblem(f"Cannot do math with type {left.kind}.")


def _numbers(operator: Operator, left: Number, right: Number) -> Number:
    if left.unit == "%" and right.unit != "%":
        raise ArithmeticProblem("If two operands differ, the first must not be %")
    if right.unit == "%" and left.unit != "%":
        if operator not in "+-":
            raise ArithmeticProblem("Percent values can only be added or subtracted from other values")
        return Number(_compute(operator, left.value, left.value * right.value / 100), left.unit)
    return Number(_compute(operator, left.value, right.value), left.unit or right.unit)


def _compute(operator: Operator, left: float, right: float) -> float:
    try:
        match operator:
            case "+":
                result = left + right
            case "-":
                result = left - right
            case "*":
                result = left * right
            case "/":
                result = left / right
            case "%":
                result = math.fmod(left, right)
    except (ZeroDivisionError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise ArithmeticProblem(f"{print_number(left)} {operator} {print_number(right)} is not a finite number")
    return result


def _colors(operator: Operator, left: Color, right: Color | Number) -> Color:
    others = right.channels if isinstance(right, Color) else (right.value,) * 3
    red, green, blue = (_compute(operator, one, other) for one, other in zip(left.channels, others, strict=True))
    return from_rgb(red, green, blue, left.alpha, perceptual=left.perceptual)


def _fields(operator: Operator, left: Value, right: Value) -> Field:
    level = SUM if operator in "+-" else PRODUCT
    return Field(f"{_operand(left, level)}{operator}{_operand(right, level + 1)}", level)


def _operand(value: Value, level: int) -> str:
    """Return *value* as an operand of Mapnik's expressions, in parentheses where its operators bind looser."""
    match value:
        case Field(text, own):
            return text if own >= min(level, ATOM) else f"({text})"
        case Number():
            return value.text
        case String(text):
            return quote(text)
        case Color():
            raise ArithmeticProblem("Can't subtract, divide, or multiply colors in expressions.")
        case _:
            raise ArithmeticProblem(f"Cannot do math with type {value.kind}.")
