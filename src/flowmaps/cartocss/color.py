"""Colours as CartoCSS computes with them.

A colour enters through HSL and leaves through 8-bit RGB. The order of the operations decides the last bit of computed
colours, so the textbook formulas are followed step by step in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import hsluv

OPAQUE = 1.0


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def clamp(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return min(high, max(low, value))


@dataclass(frozen=True, slots=True)
class Color:
    """Hue 0 to 360, saturation and lightness 0 to 1, alpha 0 to 1; *perceptual* means HSLuv instead of HSL."""

    hue: float
    saturation: float
    lightness: float
    alpha: float = OPAQUE
    perceptual: bool = False

    @property
    def kind(self) -> str:
        return "color"

    @property
    def channels(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255, rounded half up."""
        if self.perceptual:
            triple = hsluv.hsluv_to_rgb((self.hue, self.saturation * 100, self.lightness * 100))
        else:
            triple = _hsl_to_rgb(self.hue, self.saturation, self.lightness)
        red, green, blue = (round_half_up(clamp(channel) * 255) for channel in triple)
        return red, green, blue

    @property
    def text(self) -> str:
        if self.alpha >= OPAQUE:
            return "#{:02x}{:02x}{:02x}".format(*self.channels)
        alpha = math.floor(self.alpha * 100 + 0.5) / 100
        return "rgba({}, {}, {}, {})".format(*self.channels, f"{alpha:.2f}".rstrip("0").rstrip(".") or "0")

    def as_perceptual(self, wanted: bool) -> Color:
        """Return the same colour in the other model, through 8-bit RGB."""
        if wanted == self.perceptual:
            return self
        return from_rgb(*self.channels, self.alpha, perceptual=wanted)


def make(hue: float, saturation: float, lightness: float, alpha: float, *, perceptual: bool = False) -> Color:
    """Return a colour with every component clamped; the hue is clamped, not wrapped."""
    return Color(clamp(hue, 0, 360), clamp(saturation), clamp(lightness), clamp(alpha), perceptual)


def from_rgb(red: float, green: float, blue: float, alpha: float = 1.0, *, perceptual: bool = False) -> Color:
    """Return the colour of channels 0 to 255, which may be fractions."""
    triple = (clamp(red, 0, 255) / 255, clamp(green, 0, 255) / 255, clamp(blue, 0, 255) / 255)
    if perceptual:
        hue, saturation, lightness = hsluv.rgb_to_hsluv(triple)
        return make(hue, saturation / 100, lightness / 100, alpha, perceptual=True)
    return make(*_rgb_to_hsl(*triple), alpha)


def _rgb_to_hsl(red: float, green: float, blue: float) -> tuple[float, float, float]:
    high, low = max(red, green, blue), min(red, green, blue)
    lightness = (high + low) / 2
    if high == low:
        return 0.0, 0.0, lightness
    spread = high - low
    saturation = spread / (2 - high - low) if lightness > 0.5 else spread / (high + low)
    if high == red:
        hue = (green - blue) / spread + (6 if green < blue else 0)
    elif high == green:
        hue = (blue - red) / spread + 2
    else:
        hue = (red - green) / spread + 4
    return hue / 6 * 360, saturation, lightness


def _hsl_to_rgb(hue: float, saturation: float, lightness: float) -> tuple[float, float, float]:
    if saturation == 0:
        return lightness, lightness, lightness
    high = lightness * (1 + saturation) if lightness < 0.5 else lightness + saturation - lightness * saturation
    low = 2 * lightness - high
    turn = hue / 360
    return _channel(low, high, turn + 1 / 3), _channel(low, high, turn), _channel(low, high, turn - 1 / 3)


def _channel(low: float, high: float, turn: float) -> float:
    if turn < 0:
        turn += 1
    if turn > 1:
        turn -= 1
    if turn < 1 / 6:
        return low + (high - low) * 6 * turn
    if turn < 1 / 2:
        return high
    if turn < 2 / 3:
        return low + (high - low) * (2 / 3 - turn) * 6
    return low


def mix(one: Color, other: Color, weight: float) -> Color:
    """Return *one* and *other* mixed by *weight* 0 to 1 and by their alphas."""
    perceptual = one.perceptual or other.perceptual
    one, other = one.as_perceptual(perceptual), other.as_perceptual(perceptual)
    spread = one.alpha - other.alpha
    side = 2 * weight - 1
    share = ((side if side * spread == -1 else (side + spread) / (1 + side * spread)) + 1) / 2
    red, green, blue = (a * share + b * (1 - share) for a, b in zip(one.channels, other.channels, strict=True))
    alpha = one.alpha * weight + other.alpha * (1 - weight)
    return from_rgb(red, green, blue, alpha, perceptual=perceptual)


def adjust(color: Color, component: str, amount: float) -> Color:
    """Return *color* with a component moved by *amount* and clamped to 0 to 1."""
    moved = clamp(getattr(color, component) + amount)
    match component:
        case "saturation":
            return replace(color, saturation=moved)
        case "lightness":
            return replace(color, lightness=moved)
        case _:
            return replace(color, alpha=moved)


def spin(color: Color, degrees: float) -> Color:
    hue = math.fmod(color.hue + degrees, 360)
    return replace(color, hue=hue + 360 if hue < 0 else hue)
