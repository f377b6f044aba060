"""Bring a style written for an older Mapnik up to date, as the tile servers of its time did.

The steps reproduce textual transforms with their accidents, since those decide how old maps look: which marker is
doubled in size and which block gains which default. Comments and strings are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowmaps.cartocss.parser import parse
from flowmaps.cartocss.source import Author, CartoError, Edit, Limits, Message, OffsetMap, Report, apply_edits
from flowmaps.cartocss.tree import Declaration, Ruleset

KNOWN = ("2.0.0", "2.0.1", "2.0.2", "2.0.3", "2.0.4", "2.1.0", "2.1.1", "2.2.0", "2.3.0", "3.0.12", "3.0.15")
TARGET = "3.0.15"

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_NUMBER = re.compile(r"-?\d*\.?\d+")
_COMMENT_OR_STRING = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|url\([^)\n]*\)", re.DOTALL
)
_ID = re.compile(r"#[\w-]+(?=[ \t\n\r\f]*[\[:{])[ \t\n\r\f]*", re.ASCII)
_GEOMETRY_WORD = re.compile(r"\bmapnik-geometry-type\b")
_BLOCK = re.compile(r"([^{}]*)\{([^}]*)\}")
_MARKER = re.compile(r"(?<![\w/-])(marker-[a-rt-z-]+)(?=[ \t\n]*:)([ \t\n]*):([^;}]*)", re.IGNORECASE)
_OPACITY = re.compile(r"(?<![\w/-])marker-opacity(?=[ \t\n]*:)")
_SIZE = re.compile(r"(?<![\w/-])(marker-(?:width|height))[ \t\n]*:([^;{}]*)")
_PLAIN = re.compile(r"(['\"]?)(-?\d*\.?\d+)(px|pt|mm|cm|in|m|pc)?\1\s*")

_POINT = '["mapnik::geometry_type"=1] { marker-placement:point; marker-type:ellipse; }'


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A style's text after the steps; *original* is the text that positions refer to, *maps* lead back to it.

    *author* leads from there to the text that was given, where that is another one.
    """

    text: str
    original: str
    maps: tuple[OffsetMap, ...]
    author: Author | None = None
    warnings: tuple[Message, ...] = ()


def _normal_version(version: str) -> str | None:
    """Return the nearest known version at or below *version*, or None where there is no way from it."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return None
    wanted = tuple(int(part) for part in match.groups())
    known = {tuple(int(part) for part in name.split(".")): name for name in KNOWN}
    if wanted in known:
        return known[wanted]
    if wanted[0] not in (2, 3, 4) or (wanted[0] == 2 and wanted[1] > 3):
        return None
    if wanted[0] == 3 and wanted < (3, 0, 12):
        return "3.0.12"
    return known[max(name for name in known if name <= wanted)]


def upgrade(
    css: str,
    *,
    version: str,
    layer_id: str | None = None,
    stylesheet: str = "style0",
    limits: Limits | None = None,
    layer: str | None = None,
    source_positions: bool = False,
) -> Upgraded:
    """Return *css*, written for Mapnik *version* (``2.0.0`` where empty), for today's; raise `CartoError`."""
    start = _normal_version(version or "2.0.0")
    if start is None:
        text = f"No CartoCSS transform path from {version} to {TARGET}"
        raise CartoError([Message("error", text, stylesheet, layer=layer)])
    # Clients know positions in the text with its ids renamed; a person with an editor needs those of the source.
    text, maps, author = css, [], None
    if layer_id is not None:
        text, offsets = apply_edits(css, _renamed(css, layer_id))
        maps = [offsets] if source_positions else []
        author = None if source_positions else Author(css, offsets)
    original = css if source_positions else text
    if start < "2.2.0":
        text, offsets = apply_edits(text, _geometry_word(text))
        maps.append(offsets)
    if start < "2.1.0":
        text, offsets = apply_edits(text, _from_2_0(text, doubled=start != "2.0.1"))
        maps.append(offsets)
    if start < "3.0.12":
        text, offsets = apply_edits(text, _from_2_3(text, limits or Limits()))
        maps.append(offsets)
    return Upgraded(text, original, tuple(maps), author)


def _hidden(text: str) -> str:
    """Return *text* with comments, strings and addresses blanked out, at the same offsets."""
    return _COMMENT_OR_STRING.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _without_comments(text: str) -> str:
    """Return *text* with comments blanked out, at the same offsets."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0]) if match[0].startswith("/") else match[0]

    return _COMMENT_OR_STRING.sub(blank, text)


def rename_ids(text: str, layer_id: str) -> str:
    """Return *text* with each ``#name`` before ``[``, ``:`` or ``{`` bound to the layer."""
    return apply_edits(text, _renamed(text, layer_id))[0]


def _renamed(text: str, layer_id: str) -> list[Edit]:
    return [Edit(match.start(), match.end(), f"#{layer_id} ") for match in _ID.finditer(_hidden(text))]


def _geometry_word(text: str) -> list[Edit]:
    return [
        Edit(match.start(), match.end(), '"mapnik::geometry_type"') for match in _GEOMETRY_WORD.finditer(_hidden(text))
    ]


def _from_2_0(text: str, *, doubled: bool) -> list[Edit]:
    """Return the edits from 2.0 to 2.1: marker sizes, and markers on lines and polygons."""
    edits: list[Edit] = []
    plain = _without_comments(text)
    hidden = _hidden(text)
    has_markers = False
    of_global_blocks: dict[str, str] = {}
    for block in _BLOCK.finditer(hidden):
        body_start, body_end = block.start(2), block.end(2)
        is_global = not block[1].rstrip().endswith("]")
        seen = of_global_blocks if is_global else dict(of_global_blocks)
        found = False
        for match in _MARKER.finditer(hidden, body_start, body_end):
            seen.setdefault(match[1].lower(), plain[match.start(3) : match.end(3)])
            found = True
        has_markers = has_markers or (found and is_global)
        edits += [
            Edit(match.start(), match.end(), "marker-fill-opacity")
            for match in _OPACITY.finditer(hidden, body_start, body_end)
        ]
        if doubled:
            edits += _double(plain, hidden, body_start, body_end)
        if found or has_markers:
            addition = _marker_blocks(seen) + (" marker-multi-policy:whole;" if doubled else "")
            head = text[body_start:body_end].rstrip()
            missing = (
                ";"
                if hidden[body_start:body_end].strip() and not hidden[body_start:body_end].rstrip().endswith(";")
                else ""
            )
            at = body_start + len(head)
            if missing and _ends_in_line_comment(text, body_start, at):
                missing = "\n;"
            elif _ends_in_line_comment(text, body_start, at):
                missing = "\n"
            edits.append(Edit(at, at, f"{missing} {addition}"))
    return edits


def _ends_in_line_comment(text: str, start: int, end: int) -> bool:
    line = max(start, text.rfind("\n", start, end) + 1)
    return any(
        match[0].startswith("//") and match.end() >= end for match in _COMMENT_OR_STRING.finditer(text, line, end)
    )


def _double(plain: str, hidden: str, start: int, end: int) -> list[Edit]:
    """Return edits that double each marker width and height; what is no plain number is multiplied."""
    edits: list[Edit] = []
    for match in _SIZE.finditer(hidden, start, end):
        value = plain[match.start(2) : match.end(2)].strip()
        number = _PLAIN.fullmatch(value)
        if number is not None:
            new = f"{number[1]}{_doubled(number[2])}{number[3] or ''}{number[1]}"
        else:
            new = f"({value}) * 2"
        if value:
            edits.append(Edit(match.start(), match.end(), f"{match[1]}:{new}"))
    return edits


def _doubled(number: str) -> str:
    value = float(number) * 2
    return str(int(value)) if value.is_integer() else repr(value)


def _marker_blocks(seen: Mapping[str, str]) -> str:
    lines = '["mapnik::geometry_type">1] {'
    # Only a value written without a blank after the colon counts as this word.
    is_point = seen.get("marker-placement") == "point"
    if "marker-placement" not in seen:
        lines += " marker-placement:line;"
    if "marker-type" not in seen and not is_point:
        lines += " marker-type:arrow; marker-transform:scale(.5, .5);"
    if is_point:
        lines += " marker-type:ellipse;"
    return f"{_POINT} {lines} marker-clip:false; }}"


_DEFAULTS: tuple[tuple[re.Pattern[str], tuple[tuple[str, str], ...]], ...] = tuple(
    (re.compile(pattern), defaults)
    for pattern, defaults in (
        (r"polygon-(?!pattern-)", (("polygon-clip", "true"),)),
        (r"polygon-pattern-", (("polygon-pattern-clip", "true"), ("polygon-pattern-alignment", "local"))),
        (r"line-(?!pattern-)", (("line-clip", "true"),)),
        (r"line-pattern-", (("line-pattern-clip", "true"),)),
        (r"marker-", (("marker-clip", "true"),)),
        (r"marker-line-", (("marker-line-width", "1"),)),
        (r"shield-", (("shield-clip", "true"),)),
        (r"text-", (("text-clip", "true"), ("text-label-position-tolerance", "0"))),
    )
)


def _from_2_3(text: str, limits: Limits) -> list[Edit]:
    """Return the edits from 2.3 to 3.0: defaults that changed are written out. Text that does not parse has none."""
    try:
        report = Report(text, limits=limits)
        sheet = parse(report)
        report.stop()
    except CartoError:
        return []
    edits: list[Edit] = []
    outer = frozenset(_plain_names(sheet.properties))
    for ruleset in sheet.rulesets:
        _write_out(ruleset, outer, text, edits)
    return edits


def _plain_names(declarations: Sequence[Declaration]) -> list[str]:
    return [declaration.property for declaration in declarations if not declaration.instance]


def _write_out(ruleset: Ruleset, outer: frozenset[str], text: str, edits: list[Edit]) -> None:
    own = _plain_names(ruleset.declarations)
    known = outer | set(own)
    added: dict[str, str] = {}
    for pattern, defaults in _DEFAULTS:
        if any(pattern.match(name) for name in own):
            added.update({name: value for name, value in defaults if name not in known})
    if added:
        body = " ".join(f"{name}: {value};" for name, value in added.items())
        edits.append(Edit(ruleset.end, ruleset.end, f"{_joint(ruleset, text)} {body} "))
    for inner in ruleset.rulesets:
        _write_out(inner, known | set(added), text, edits)


def _joint(ruleset: Ruleset, text: str) -> str:
    """Return what must stand before an addition at the block's end: a semicolon where the last one was left out."""
    last_block = max((inner.end + 1 for inner in ruleset.rulesets), default=0)
    last_declaration = max((declaration.offset for declaration in ruleset.declarations), default=0)
    joint = "\n" if _ends_in_line_comment(text, 0, len(text[: ruleset.end].rstrip())) else ""
    if last_declaration < last_block:
        return joint
    tail = _hidden(text)[last_declaration : ruleset.end].rstrip()
    return joint if tail.endswith(";") else f"{joint};"
