"""Read the value of a ramp's declaration: a call whose arguments are numbers, words, strings and calls."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_DEPTH = 8
MAX_ARGUMENTS = 256
_TOKEN = re.compile(
    r"""
    (?P<gap>[\s,/:]+)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<url>url\([^"'()]*\))
    | (?P<call>[^\s,/:"'()\[\]]*)\(
    | (?P<close>\))
    | (?P<word>(?:\[[^\]]*\]|[^\s,/:"'()\[\]])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|0[xX][0-9a-fA-F]+")
_SAFE_BARE = re.compile(r"[#@\w.-]+")


class MalformedRamp(ValueError):
    """What is written is no ramp; the message says why."""


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word or a string; *source* is how it is written in a stylesheet."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name, its arguments, and the text of the whole call; a tuple has no name."""

    name: str
    arguments: tuple[Argument, ...]
    source: str


Argument = float | Word | Call


def parse_call(value: str) -> Call:
    """Return the one call that *value* is; raise `MalformedRamp`."""
    parser = _Parser(value)
    found = parser.arguments(0)
    if len(found) != 1 or not isinstance(found[0], Call):
        raise MalformedRamp("a ramp must be the whole value of a property")
    return found[0]


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def arguments(self, depth: int) -> list[Argument]:
        """Read up to the bracket that closes this depth, or at depth 0 to the end."""
        if depth > MAX_DEPTH:
            raise MalformedRamp(f"a ramp is nested deeper than {MAX_DEPTH} levels")
        found: list[Argument] = []
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                raise MalformedRamp(f"unexpected {self._text[self._at : self._at + 20]!r} in a ramp")
            start, self._at = self._at, match.end()
            if match.lastgroup == "close":
                if depth == 0:
                    raise MalformedRamp("a bracket is closed that was not opened")
                return found
            if match.lastgroup == "call":
                inner = tuple(self.arguments(depth + 1))
                found.append(Call(match["call"], inner, self._text[start : self._at]))
            elif match.lastgroup != "gap":
                found.append(_leaf(match))
            if len(found) > MAX_ARGUMENTS:
                raise MalformedRamp(f"a ramp has more than {MAX_ARGUMENTS} values")
        if depth:
            raise MalformedRamp("a bracket is not closed")
        return found


def _leaf(match: re.Match[str]) -> Argument:
    text = match[0]
    if match.lastgroup == "string":
        inner = text[1:-1]
        # A colour or a number in quotes works as such; a face name needs its quotes.
        return Word(inner, inner if _SAFE_BARE.fullmatch(inner) else text)
    number = number_of(text)
    return Word(text, text) if number is None else number


def number_of(text: str) -> float | None:
    """Return the number that *text* is, or None."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(int(text, 16)) if text[:2].lower() == "0x" else float(text)
    return number if math.isfinite(number) else None
