"""Hold a stylesheet's text, and say where in it something is wrong.

Lines count from 1 and columns from 0. Positions refer to the text as the author sees it: edits made on the way
(see `apply_edits`) are mapped back.
"""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from flowmaps.errors import InvalidCartoCSS

Severity = Literal["error", "warning"]
MAX_ERRORS = 20
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one stylesheet may ask for; each is named in the error that it causes."""

    source_bytes: int = 262_144
    block_depth: int = 32
    expression_depth: int = 32
    expression_operators: int = 128
    value_items: int = 1_024
    selectors_per_ruleset: int = 64
    definitions: int = 4_000
    declarations: int = 20_000
    elements_per_attachment: int = 2_000
    elements_per_layer: int = 4_000
    rules_per_map: int = 8_000
    merge_steps: int = 5_000_000
    seconds: float = 5.0
    xml_bytes: int = 8_388_608
    string_chars: int = 16_384
    regex_chars: int = 512


class Place(NamedTuple):
    """A line, from 1, and a column, from 0."""

    line: int
    column: int

    @classmethod
    def of(cls, text: str, offset: int) -> Place:
        return cls(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset) - 1)


@dataclass(frozen=True, slots=True)
class Message:
    """One finding; printed ``style0:3:12 text``, or ``style0: text`` where it has no position.

    *layer* is the id of the layer, *excerpt* the offending text: the declaration, filter or selector at the position.
    *source_line* is the whole line, for a caret under *column*. *place* is the position in the author's own text, where
    the others may count in one whose ids were renamed.
    """

    severity: Severity
    text: str
    stylesheet: str = "style0"
    line: int | None = None
    column: int | None = None
    offset: int | None = None
    layer: str | None = None
    excerpt: str = ""
    source_line: str = field(default="", compare=False)
    place: Place | None = field(default=None, compare=False)

    def __str__(self) -> str:
        if self.line is None:
            return f"{self.stylesheet}: {self.text}"
        return f"{self.stylesheet}:{self.line}:{self.column} {self.text}"


class CartoError(InvalidCartoCSS):
    """A stylesheet does not compile; *messages* holds every error that was found, each with its position."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = tuple(dict.fromkeys(messages))
        super().__init__("\n".join(str(message) for message in self.messages))


class Edit(NamedTuple):
    """Replace ``text[start:end]`` by *replacement*."""

    start: int
    end: int
    replacement: str


class OffsetMap:
    """Map offsets in an edited text back to the text before the edits."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._starts: list[int] = []
        self._edits = edits
        shift = 0
        for edit in edits:
            self._starts.append(edit.start + shift)
            shift += len(edit.replacement) - (edit.end - edit.start)

    def original(self, offset: int) -> int:
        index = bisect.bisect_right(self._starts, offset) - 1
        if index < 0:
            return offset
        edit = self._edits[index]
        inside = offset - self._starts[index]
        if inside < len(edit.replacement):
            return min(edit.start + inside, max(edit.start, edit.end - 1))
        return edit.end + inside - len(edit.replacement)


def apply_edits(text: str, edits: Sequence[Edit]) -> tuple[str, OffsetMap]:
    """Return *text* with *edits*, which do not overlap, done; and the way back."""
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    parts: list[str] = []
    at = 0
    for edit in ordered:
        parts += (text[at : edit.start], edit.replacement)
        at = edit.end
    parts.append(text[at:])
    return "".join(parts), OffsetMap(ordered)


_LINE_CHARS = 4_000
_EXCERPT_CHARS = 120
_EXCERPT = re.compile(
    r"(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|\[[^\]\n]*\]|\([^)\n]*\)|[^;{}\n\]\[()\"'])+|.", re.DOTALL
)


def excerpt_of(text: str, offset: int) -> str:
    """Return the declaration, filter or selector that starts at *offset*, cut to 120 characters."""
    match = _EXCERPT.match(text, offset, offset + 4 * _EXCERPT_CHARS)
    return match[0].strip()[:_EXCERPT_CHARS] if match else ""


def normalise(text: str) -> str:
    """Return *text* with bare line feeds and without a byte order mark."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


class Author(NamedTuple):
    """The text as its author wrote it, and the way back to it from the text that messages count in."""

    text: str
    offsets: OffsetMap


@dataclass(slots=True)
class Report:
    """Collect what is found in one stylesheet, and watch the clock."""

    text: str
    stylesheet: str = "style0"
    limits: Limits = field(default_factory=Limits)
    maps: tuple[OffsetMap, ...] = ()
    original: str | None = None
    author: Author | None = None
    layer: str | None = None
    errors: list[Message] = field(default_factory=list)
    warnings: list[Message] = field(default_factory=list)
    deadline: float = 0.0

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.limits.seconds

    def message(self, severity: Severity, text: str, offset: int | None) -> Message:
        if offset is None:
            return Message(severity, text, self.stylesheet, layer=self.layer)
        for offset_map in reversed(self.maps):
            offset = offset_map.original(offset)
        source = self.text if self.original is None else self.original
        offset = min(offset, len(source))
        place = Place.of(source, offset)
        line_start = offset - place.column
        line_end = source.find("\n", offset)
        line = source[line_start : line_end if line_end >= 0 else len(source)]
        own = place
        if self.author is not None:
            own = Place.of(self.author.text, min(self.author.offsets.original(offset), len(self.author.text)))
        return Message(
            severity,
            text,
            self.stylesheet,
            place.line,
            place.column,
            offset,
            self.layer,
            excerpt_of(source, offset),
            line[:_LINE_CHARS],
            own,
        )

    def error(self, text: str, offset: int | None) -> None:
        """Note an error; raise when there are enough of them."""
        message = self.message("error", text, offset)
        if message not in self.errors:
            self.errors.append(message)
        if len(self.errors) >= MAX_ERRORS:
            self.stop()

    def warn(self, text: str, offset: int | None) -> None:
        message = self.message("warning", text, offset)
        if message not in self.warnings:
            self.warnings.append(message)

    def stop(self) -> None:
        """Raise `CartoError` with the errors noted so far, if there are any."""
        if self.errors:
            raise CartoError(sorted(self.errors, key=lambda message: (message.offset is not None, message.offset or 0)))

    def refuse(self, text: str, offset: int | None = None) -> CartoError:
        """Return the error for a limit that was reached, to be raised at once."""
        return CartoError([*self.errors, self.message("error", text, offset)])

    def check_clock(self) -> None:
        if time.monotonic() > self.deadline:
            raise self.refuse("Timeout fired while generating Mapnik XML")


def check_source(text: str, stylesheet: str, limits: Limits, layer: str | None = None) -> None:
    """Raise `CartoError` where *text* is blank, too long or holds characters that XML cannot."""
    if not text.strip():
        raise CartoError([Message("error", "CartoCSS is empty", stylesheet, layer=layer)])
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.source_bytes:
        text_of_limit = f"The stylesheet has {size} bytes, the limit is {limits.source_bytes} (source_bytes)"
        raise CartoError([Message("error", text_of_limit, stylesheet, layer=layer)])
    if match := _CONTROL.search(text):
        report = Report(text, stylesheet, limits, layer=layer)
        raise report.refuse(f"Control character U+{ord(match[0]):04X} is not allowed", match.start())
