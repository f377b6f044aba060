"""Find the declarations of a stylesheet whose value is a ramp, with the selectors around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flowmaps.errors import Position

RAMP = re.compile(r"(?<![\w-])ramp\(")
_URL = re.compile(r"url\([^\"'()]*\)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_SKIPPED = re.compile("|".join(pattern.pattern for pattern in (_URL, _COMMENT, _STRING)), re.DOTALL)
"""What holds no syntax: braces and semicolons inside mean nothing."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """``name: value`` from *start* to *end* of the text; *after* is behind its semicolon.

    *selector* joins the selectors around it.
    """

    name: str
    value: str
    start: int
    end: int
    after: int
    selector: str


def without_comments(text: str) -> str:
    """Return *text* with each comment as blanks, so that offsets and lines stay."""
    return _SKIPPED.sub(lambda match: _blank(match[0]) if match[0].startswith("/") else match[0], text)


def _blank(comment: str) -> str:
    return "".join("\n" if character == "\n" else " " for character in comment)


def ramp_declarations(text: str) -> Iterator[Declaration]:
    """Yield the declarations that call ``ramp``; *text* has no comments."""
    selectors: list[str] = []
    start = at = 0
    while at < len(text):
        if skipped := _SKIPPED.match(text, at):
            at = skipped.end()
            continue
        match text[at]:
            case "{":
                selectors.append(" ".join(text[start:at].split()))
                start = at + 1
            case ";" | "}":
                yield from _declaration(text, start, at, selectors)
                if text[at] == "}" and selectors:
                    selectors.pop()
                start = at + 1
            case "[":
                # A field or a filter: its name may hold anything but the bracket.
                at = max(at, text.find("]", at))
        at += 1
    yield from _declaration(text, start, len(text), selectors)


def _declaration(text: str, start: int, end: int, selectors: list[str]) -> Iterator[Declaration]:
    segment = text[start:end]
    name, colon, value = segment.partition(":")
    if colon and RAMP.search(_SKIPPED.sub('""', value)):
        first = start + len(segment) - len(segment.lstrip())
        last = start + len(segment.rstrip())
        after = end + 1 if text[end : end + 1] == ";" else last
        yield Declaration(name.strip(), value.strip(), first, last, after, "".join(selectors))


def place(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))
