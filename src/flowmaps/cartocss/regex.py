"""Check the regular expressions of filters, which Mapnik runs once for each feature and without a time limit.

A subset is accepted that Mapnik's engine (Boost) and Python's read alike: literals, ``.``, ``^``, ``$``, character
classes, alternatives, groups ``(…)`` and ``(?:…)``, ``(?i)`` at the start, and the repeats ``* + ? {n} {n,} {n,m}``.
Repeats inside a repeated group, which can take exponential time, are refused.
"""

from __future__ import annotations

import re
from typing import Final

MAX_DEPTH: Final = 20
MAX_COUNT: Final = 255

_STRING_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_REPEAT = re.compile(r"[*+?]\??|\{(\d{1,4})(?:(,)(\d{0,4}))?\}\??")
_CLASS_ESCAPES = frozenset("dDwWsS")
_POSIX = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "word": r"\w",
    "xdigit": "0-9a-fA-F",
    "punct": r"!-/:-@\[-`{-~",
}
_CLASS_ITEM = re.compile(r"\[:(\w+):\]|\\(.)|([^\]\\])", re.DOTALL)


class BadRegex(ValueError):
    """The pattern is outside of the subset; the text says why."""


def decode(text: str) -> str:
    """Return a string literal's text as Mapnik hands it to its regular expressions; unknown escapes stay."""
    return _ESCAPE.sub(lambda match: _STRING_ESCAPES.get(match[1], match[0]), text)


def translate(pattern: str) -> str:
    """Return the pattern for Python's `re`; raise `BadRegex` where it is outside of the subset.

    Classes such as ``[:alpha:]`` know ASCII only in the result, all letters in Mapnik.
    """
    reader = _Reader(pattern)
    flags = ""
    if pattern.startswith("(?i)"):
        flags, reader.at = "(?i)", len("(?i)")
    reader.alternatives(0)
    if reader.at < len(pattern):
        raise BadRegex("a closing parenthesis has no opening one")
    return flags + "".join(reader.out)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.out: list[str] = []

    def alternatives(self, depth: int) -> bool:
        """Read to a closing parenthesis or the end; tell whether repeats or rival alternatives are inside."""
        if depth > MAX_DEPTH:
            raise BadRegex(f"groups are nested deeper than {MAX_DEPTH}")
        repeats = False
        starts: list[str] = []
        while True:
            start = self.at
            repeats = self._sequence(depth) or repeats
            starts.append(self.pattern[start : start + 1])
            if not self.pattern.startswith("|", self.at):
                break
            self.at += 1
            self.out.append("|")
        # Alternatives that cannot be told apart by their first character can be tried in many ways when repeated.
        rivals = len(starts) > 1 and (len(set(starts)) < len(starts) or not all(first.isalnum() for first in starts))
        return repeats or rivals

    def _sequence(self, depth: int) -> bool:
        repeats = False
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            inside = self._atom(depth)
            repeats = self._repeat(inside) or repeats or inside
        return repeats

    def _repeat(self, inside: bool) -> bool:
        match = _REPEAT.match(self.pattern, self.at)
        if match is None:
            if self.pattern.startswith("{", self.at):
                raise BadRegex("an opening brace is neither a count nor escaped")
            return False
        low, comma, high = match[1], match[2], match[3]
        if low is not None:
            counts = [int(low), *([int(high)] if high else [])]
            if max(counts) > MAX_COUNT or counts != sorted(counts):
                raise BadRegex(f"the count {match[0]} is not in order or above {MAX_COUNT}")
        self.at = match.end()
        if _REPEAT.match(self.pattern, self.at) or self.pattern[self.at : self.at + 1] in ("+", "*", "?", "{"):
            raise BadRegex("a repeat follows a repeat")
        optional = match[0].startswith("?") or (low is not None and int(low) <= 1 and high in ("0", "1"))
        once = low is not None and comma is None and int(low) <= 1
        if inside and not optional and not once:
            raise BadRegex("it repeats what repeats already, which can take forever")
        self.out.append(match[0])
        return True

    def _atom(self, depth: int) -> bool:
        """Read one character, class or group; tell whether repeats are inside."""
        char = self.pattern[self.at]
        if char == "(":
            return self._group(depth)
        if char == "[":
            self._class()
        elif char == "\\":
            self._escape()
        elif char in "*+?{":
            raise BadRegex(f"the repeat {char} follows nothing")
        elif char in "^$.":
            self.at += 1
            self.out.append(char)
            if char != "." and _REPEAT.match(self.pattern, self.at):
                raise BadRegex(f"{char} cannot repeat")
        else:
            self.at += 1
            self.out.append(re.escape(char))
        return False

    def _group(self, depth: int) -> bool:
        self.at += 1
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self.pattern.startswith("?", self.at):
            raise BadRegex("groups of the kind (?…) are not allowed, other than (?:…) and (?i) at the start")
        self.out.append("(?:")
        repeats = self.alternatives(depth + 1)
        if not self.pattern.startswith(")", self.at):
            raise BadRegex("a group is not closed")
        self.at += 1
        self.out.append(")")
        return repeats

    def _escape(self) -> None:
        char = self.pattern[self.at + 1 : self.at + 2]
        if char in _CLASS_ESCAPES and char:
            self.out.append("\\" + char)
        elif char and not char.isalnum():
            self.out.append(re.escape(char))
        else:
            raise BadRegex(f"the escape \\{char} is not allowed")
        self.at += 2

    def _class(self) -> None:
        """Read ``[…]``; a ``]`` or ``-`` in it must be escaped, ranges must ascend."""
        self.at += 1
        parts = ["["]
        if self.pattern.startswith("^", self.at):
            parts.append("^")
            self.at += 1
        empty = True
        last: str | None = None
        while not self.pattern.startswith("]", self.at):
            match = _CLASS_ITEM.match(self.pattern, self.at)
            if match is None:
                raise BadRegex("a character class is not closed")
            self.at = match.end()
            if match[3] == "-" and last is not None and not self.pattern.startswith("]", self.at):
                last = self._range(last, parts)
            else:
                last = self._member(match, parts)
            empty = False
        if empty:
            raise BadRegex("a character class is empty")
        self.at += 1
        self.out.append("".join(parts) + "]")

    def _member(self, match: re.Match[str], parts: list[str]) -> str | None:
        """Add one member of a class; return it where it is a single character."""
        if match[1] is not None:
            if match[1] not in _POSIX:
                raise BadRegex(f"there is no character class [:{match[1]}:]")
            parts.append(_POSIX[match[1]])
            return None
        char = match[2] if match[2] is not None else match[3]
        if match[2] is not None and char in _CLASS_ESCAPES:
            parts.append("\\" + char)
            return None
        if match[2] is not None and char.isalnum():
            raise BadRegex(f"the escape \\{char} is not allowed")
        if match[3] == "[":
            raise BadRegex("an opening bracket in a character class is not escaped")
        parts.append(re.escape(char))
        return char

    def _range(self, first: str, parts: list[str]) -> str | None:
        match = _CLASS_ITEM.match(self.pattern, self.at)
        inner: list[str] = []
        if match is None or (last := self._member(match, inner)) is None or last < first:
            raise BadRegex("a range of a character class does not ascend")
        self.at = match.end()
        parts += ["-", *inner]
        return None
