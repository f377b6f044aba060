"""The functions that are computed when a stylesheet compiles: colours and their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flowmaps.cartocss.color import Color, adjust, from_rgb, make, mix, round_half_up, spin
from flowmaps.cartocss.values import Number, Value

Computed = Callable[[Sequence[Value]], Value]


class BadArguments(Exception):
    """The arguments do not fit; *expected* is their number where that is what is wrong."""

    def __init__(self, expected: int | None = None) -> None:
        super().__init__()
        self.expected = expected


def _take(arguments: Sequence[Value], count: int) -> Sequence[Value]:
    if len(arguments) < count:
        raise BadArguments(count)
    return arguments[:count]


def _number(value: Value) -> Number:
    if not isinstance(value, Number):
        raise BadArguments
    return value


def _color(value: Value) -> Color:
    if not isinstance(value, Color):
        raise BadArguments
    return value


def _share(value: Value) -> float:
    number = _number(value)
    return number.value / 100 if number.unit == "%" else number.value


def _channel(value: Value) -> float:
    number = _number(value)
    return number.value * 255 / 100 if number.unit == "%" else number.value


def _rgb(count: int) -> Computed:
    def compute(arguments: Sequence[Value]) -> Value:
        values = _take(arguments, count)
        alpha = _share(values[3]) if count > 3 else 1.0
        return from_rgb(_channel(values[0]), _channel(values[1]), _channel(values[2]), alpha)

    return compute


def _hsl(count: int, *, perceptual: bool) -> Computed:
    def compute(arguments: Sequence[Value]) -> Value:
        hue, saturation, lightness, *alpha = [_share(value) for value in _take(arguments, count)]
        return make(hue, saturation, lightness, *(alpha or [1.0]), perceptual=perceptual)

    return compute


def _part(component: str, *, perceptual: bool) -> Computed:
    def compute(arguments: Sequence[Value]) -> Value:
        color = _color(_take(arguments, 1)[0]).as_perceptual(perceptual)
        value: float = getattr(color, component)
        return Number(round_half_up(value)) if component == "hue" else Number(round_half_up(value * 100), "%")

    return compute


def _alpha(arguments: Sequence[Value]) -> Value:
    return Number(_color(_take(arguments, 1)[0]).alpha)


def _adjust(component: str, sign: int, *, perceptual: bool) -> Computed:
    def compute(arguments: Sequence[Value]) -> Value:
        color, amount = _take(arguments, 2)
        return adjust(_model(_color(color), perceptual), component, sign * _number(amount).value / 100)

    return compute


def _model(color: Color, perceptual: bool) -> Color:
    return color.as_perceptual(True) if perceptual else color


def _spin(*, perceptual: bool) -> Computed:
    def compute(arguments: Sequence[Value]) -> Value:
        color, degrees = _take(arguments, 2)
        return spin(_model(_color(color), perceptual), _number(degrees).value)

    return compute


def _greyscale(*, perceptual: bool) -> Computed:
    def compute(arguments: Sequence[Value]) -> Value:
        return replace(_model(_color(_take(arguments, 1)[0]), perceptual), saturation=0.0)

    return compute


def _mix(arguments: Sequence[Value]) -> Value:
    one, other, weight = _take(arguments, 3)
    return mix(_color(one), _color(other), _number(weight).value / 100)


def _table() -> dict[str, tuple[int, Computed]]:
    table: dict[str, tuple[int, Computed]] = {
        "rgb": (3, _rgb(3)),
        "rgba": (4, _rgb(4)),
        "hsl": (3, _hsl(3, perceptual=False)),
        "hsla": (4, _hsl(4, perceptual=False)),
        "alpha": (1, _alpha),
        "mix": (3, _mix),
    }
    for name in ("hsluv", "husl"):
        table[name] = (3, _hsl(3, perceptual=True))
        table[f"{name}a"] = (4, _hsl(4, perceptual=True))
    adjustments = {
        "lighten": ("lightness", 1),
        "darken": ("lightness", -1),
        "saturate": ("saturation", 1),
        "desaturate": ("saturation", -1),
        "fadein": ("alpha", 1),
        "fadeout": ("alpha", -1),
    }
    for perceptual, suffix in ((False, ""), (True, "p")):
        for name in ("hue", "saturation", "lightness"):
            table[name + suffix] = (1, _part(name, perceptual=perceptual))
        for name, (component, sign) in adjustments.items():
            table[name + suffix] = (2, _adjust(component, sign, perceptual=perceptual))
        table["spin" + suffix] = (2, _spin(perceptual=perceptual))
        table["greyscale" + suffix] = (1, _greyscale(perceptual=perceptual))
    return table


FUNCTIONS = _table()
"""Function name → (number of arguments, what it computes)."""
