"""What is kept of a foreign SVG. Those that are refused, over HTTP: tests/integration/test_style_pictures.py."""

import gzip
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.render.svg import BadSVG, clean_svg, looks_like_svg

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:x="urn:x" '


def cleaned(inside: str, attributes: str = 'width="8" height="8"') -> str:
    return clean_svg(f"{HEAD}{attributes}>{inside}</svg>".encode()).decode().partition('xlink">')[2]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ('<path d="M0 0H8" style="fill:#f00"/>', '<path d="M0 0H8" style="fill:#f00" />'),
        ("<title>a</title><desc/><metadata/><x:view/><text>a</text><!-- a --><?a b?>", ""),
        ('<rect onload="x()" x:label="a" xml:space="preserve" class="b"/>', '<rect class="b" />'),
        ('<use href="#a"/><use xlink:href=" #a "/>', '<use xlink:href="#a" /><use xlink:href="#a" />'),
        ("<style>.a { fill: url(#b) } <!-- c --></style>", "<style>.a { fill: url(#b) } </style>"),
        ("<style><![CDATA[.a > .b { fill: red }]]></style>", "<style>.a &gt; .b { fill: red }</style>"),
        ('<g><rect fill="&quot;&lt;&amp;"/></g>', '<g><rect fill="&quot;&lt;&amp;" /></g>'),
    ],
)
def test_what_mapnik_draws_is_kept_and_nothing_else(inside: str, expected: str) -> None:
    assert cleaned(inside).removesuffix("</svg>").strip() == expected


def test_prefixes_are_written_out() -> None:
    body = b'<s:svg xmlns:s="http://www.w3.org/2000/svg" width="8"><s:rect/></s:svg>'
    assert [element.tag.rpartition("}")[2] for element in ET.fromstring(clean_svg(body)).iter()] == ["svg", "rect"]
    assert b"<rect />" in clean_svg(body)


def test_without_a_namespace_and_in_other_encodings() -> None:
    for text, encoding in (("<svg><rect/></svg>", "utf-8"), ("<svg><rect id='é'/></svg>", "utf-16")):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        assert b"<rect" in clean_svg((head + text).encode(encoding))


@pytest.mark.parametrize(
    "inside",
    [
        '<use href="other.svg#a"/>',
        '<use xlink:href="data:image/svg+xml,a"/>',
        "<rect style=\"fill: URL( 'http://a' )\"/>",
        '<rect style="fill: u\\72l(http://a)"/>',
        "<style>@IMPORT 'a';</style>",
        "<svg/>",
        "<image/>",
        "<filter><feImage/></filter><image/>",
        "<foreignObject/>",
        # Of elements that share an id, Mapnik may take any.
        '<g id="a"><use href="#a"/></g><g id="a"/>',
        '<linearGradient id="a" href="#b"/><linearGradient id="b" href="#a"/>',
        '<g id="a"><use href="#b"/></g><g id="b"><use href="#c"/></g><g id="c"><use href="#a"/></g>',
    ],
)
def test_what_leads_out_or_in_a_circle_is_refused(inside: str) -> None:
    with pytest.raises(BadSVG):
        cleaned(inside)


def test_repetition_is_counted() -> None:
    shape = '<g id="a"><rect/></g>'
    cleaned(shape + '<use href="#a"/>' * 1_600)
    with pytest.raises(BadSVG, match="more than 5000"):
        cleaned(shape + '<use href="#a"/>' * 1_700)


def test_a_long_chain_of_references_ends() -> None:
    chain = "".join(f'<g id="a{n}"><use href="#a{n + 1}"/></g>' for n in range(2_000))
    with pytest.raises(BadSVG, match="too many references"):
        cleaned(chain)


def test_what_is_taken_for_svg() -> None:
    assert looks_like_svg(b" \r\n<svg/>")
    assert looks_like_svg("\ufeff<svg/>".encode())
    assert looks_like_svg(gzip.compress(b"<svg/>"))
    assert not looks_like_svg(b"\x89PNG\r\n")
    assert not looks_like_svg(b"")


@given(st.binary(max_size=200))
def test_any_bytes_are_cleaned_or_refused(body: bytes) -> None:
    for text in (body, b"<svg>" + body + b"</svg>", b"\x1f\x8b" + body):
        try:
            again = clean_svg(clean_svg(text))
        except BadSVG:
            continue
        # What was written once is read the same again.
        assert again == clean_svg(text)
