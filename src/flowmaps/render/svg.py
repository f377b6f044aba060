"""Rewrite SVG of unknown origin to what Mapnik draws of it, or refuse it; pure.

Mapnik's reader trusts its files: a circle of ``<use>`` ends the process. So nothing of a foreign text reaches it: the
text is parsed here, the elements and attributes that Mapnik draws are written anew, and the rest is left out.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET
from xml.parsers import expat

LARGEST_SVG_BYTES = 524_288
DEEPEST = 64
MOST_DRAWN = 5_000
"""Elements that are drawn, with each repetition by ``<use>`` counted."""

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SHAPES = frozenset(("path", "rect", "circle", "ellipse", "line", "polyline", "polygon"))
_DRAWN = _SHAPES | {
    "svg", "g", "defs", "symbol", "use", "linearGradient", "radialGradient", "stop", "style", "clipPath",
}  # fmt: skip
_REFUSED = frozenset(("image", "feImage", "foreignObject", "script"))
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_ELSEWHERE = re.compile(r"url\s*\(\s*[\"']?\s*(?!#)|@import|\\", re.IGNORECASE)
"""What leads out of the document in a style; an escape could hide it."""
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31


class BadSVG(ValueError):
    """The text is no SVG, or one that is not drawn here; the message says why."""


def looks_like_svg(body: bytes) -> bool:
    """Tell whether *body* is a text in XML, perhaps compressed, and no other picture."""
    return body.startswith(_GZIP) or body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def clean_svg(body: bytes) -> bytes:
    """Return the SVG in *body*, perhaps compressed with gzip, as Mapnik may read it; raise `BadSVG`."""
    root = _parsed(_decompressed(body))
    cleaned = _cleaned(root, is_root=True)
    if cleaned is None:
        raise BadSVG("the document is no SVG")
    _check_repetitions(cleaned)
    cleaned.set("xmlns", _SVG)
    cleaned.set("xmlns:xlink", _XLINK)
    return bytes(ET.tostring(cleaned, encoding="utf-8"))


def _decompressed(body: bytes) -> bytes:
    if body.startswith(_GZIP):
        try:
            body = zlib.decompressobj(_GZIP_WINDOW).decompress(body, LARGEST_SVG_BYTES + 1)
        except zlib.error as error:
            raise BadSVG("the SVG cannot be decompressed") from error
    if len(body) > LARGEST_SVG_BYTES:
        raise BadSVG(f"an SVG of more than {LARGEST_SVG_BYTES} bytes")
    return body


def _parsed(body: bytes) -> ET.Element:
    """Return the document's root; what would make a parser fetch or multiply anything is refused.

    A reference to a document type is let pass, as drawing programs write one; it is neither followed nor kept.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise BadSVG(f"an SVG with elements nested deeper than {DEEPEST}")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def doctype(_name: str, _system: str | None, _public: str | None, has_internal: bool) -> None:
        if has_internal:
            raise BadSVG("an SVG with a document type of its own")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:
        raise BadSVG("the document is no XML that can be read") from error
    return builder.close()


def _cleaned(element: ET.Element, *, is_root: bool = False) -> ET.Element | None:
    """Return what Mapnik draws of *element*, or None."""
    space, _, name = element.tag.rpartition("}")
    if is_root and (name != "svg" or space not in (_SVG, "")):
        raise BadSVG("the document is no SVG")
    if space not in (_SVG, "") or name not in _DRAWN:
        if name in _REFUSED and space in (_SVG, ""):
            raise BadSVG(f"an SVG with <{name}>")
        return None
    if name == "svg" and not is_root:
        raise BadSVG("an SVG inside another")
    cleaned = ET.Element(name, dict(_attributes(element)))
    if name == "style":
        text = "".join(element.itertext())
        _check_inside(text)
        cleaned.text = text
        return cleaned
    for child in element:
        kept = _cleaned(child)
        if kept is not None:
            cleaned.append(kept)
    return cleaned


def _attributes(element: ET.Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        space, _, name = key.rpartition("}")
        if name == "href" and space in ("", _XLINK):
            if not value.strip().startswith("#"):
                raise BadSVG("an SVG that refers to something outside of it")
            yield "xlink:href", value.strip()
        elif not space and _NAME.fullmatch(name) and not name.lower().startswith(("on", "xmlns")):
            _check_inside(value)
            yield name, value


def _check_inside(text: str) -> None:
    if _ELSEWHERE.search(text):
        raise BadSVG("an SVG that refers to something outside of it")


def _check_repetitions(root: ET.Element) -> None:
    """Raise `BadSVG` for references in a circle, and for those that multiply what is drawn."""
    # Of elements that share an id Mapnik takes one; here all of them count.
    by_id: dict[str, list[ET.Element]] = {}
    for element in root.iter():
        by_id.setdefault(element.get("id", ""), []).append(element)
    counts: dict[ET.Element, int] = {}
    open_elements: set[ET.Element] = set()

    def count(element: ET.Element, depth: int) -> int:
        if element in counts:
            return counts[element]
        if element in open_elements:
            raise BadSVG("an SVG that refers to itself")
        if depth > 2 * DEEPEST:
            raise BadSVG("an SVG with too many references")
        open_elements.add(element)
        total = 1 + sum(count(child, depth + 1) for child in element)
        if name := element.get("xlink:href", "").removeprefix("#"):
            total += sum(count(target, depth + 1) for target in by_id.get(name, ()))
        open_elements.discard(element)
        counts[element] = total
        return total

    if count(root, 0) > MOST_DRAWN:
        raise BadSVG(f"an SVG that draws more than {MOST_DRAWN} elements")
