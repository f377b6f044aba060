"""A stranger's style can neither add to the XML, nor reach a file, nor crash the compiler."""

from __future__ import annotations

import os
import string
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowmaps.cartocss import (
    CartoError,
    LayerStyle,
    MapLayer,
    Message,
    RefusedResource,
    build_map,
    columns,
    compile_layer,
    evaluate,
    listed_assets,
    parse,
    relative_names,
)
from flowmaps.errors import ConfigurationError
from flowmaps.render.assets import list_assets

NIGHTLY = bool(os.environ.get("FLOWMAPS_TEST_NIGHTLY"))
pytestmark = pytest.mark.timeout(3_600 if NIGHTLY else 180)
HOSTILE = (
    "\"/><Layer name='x'/><a b=\"",
    "]]></TextSymbolizer><Layer name='x'/><![CDATA[",
    "&lt;&amp;&#0;&xxe;",
    "<!DOCTYPE x [<!ENTITY xxe SYSTEM 'file:///etc/passwd'>]>",
    "'); DROP TABLE datapoint; --",
    "\u2028\u202e\ufeff\u00e4\U0001f600",
    "${HOME} {{7*7}} %s %n",
    "back\\\\slash",
    "tab\tbed",
)
ELEMENTS = {
    "Map", "Parameters", "Parameter", "Datasource", "Style", "Rule", "Filter", "Layer", "StyleName", "TextSymbolizer",
    "MarkersSymbolizer", "FontSet", "Font", "MaxScaleDenominator", "MinScaleDenominator", "LineSymbolizer",
}  # fmt: skip


def quoted(text: str) -> str:
    """Return *text* as a string of CartoCSS in the kind of quotes that it does not hold."""
    return f'"{text}"' if '"' not in text else "'" + text.replace("'", "\\'") + "'"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_filters_and_values_stay_values(text: str) -> None:
    css = f"""
    #pts[{quoted(text)} = {quoted(text)}] {{
      text-name: {quoted(text)}; text-face-name: {quoted(text)}, "B"; text-wrap-character: {quoted(text)};
      marker-width: 2;
    }}"""
    xml = build_map([MapLayer(compile_layer(css, layer_id="pts"), {"table": text})], params={text: text})
    root = ET.fromstring(xml)
    assert {element.tag for element in root.iter()} <= ELEMENTS
    assert [layer.get("name") for layer in root.iter("Layer")] == ["pts"]
    assert [style.get("name") for style in root.iter("Style")] == ["pts"]
    (rule,) = root.iter("Rule")
    assert f"[{quoted(text)[1:-1]}] = " in (rule.findtext("Filter") or "")
    assert next(root.iter("Font")).get("face-name") == (text if '"' not in text else text.replace("'", "\\'"))
    assert root.findtext("Layer/Datasource/Parameter") in (text, None)


def test_a_hostile_layer_id_stays_a_name() -> None:
    name = "x\"/><Layer name='y'>&"
    root = ET.fromstring(build_map([MapLayer(compile_layer("::a { line-width: 1; }", layer_id=name))]))
    assert [layer.get("name") for layer in root.iter("Layer")] == [name]
    assert [style.get("name") for style in root.iter("Style")] == [f"{name}-a"]


@pytest.mark.parametrize("char", ["\0", "\x1b", "\x7f", "\ud800", "\ufffe"])
def test_characters_that_xml_cannot_hold_are_refused(char: str) -> None:
    with pytest.raises(CartoError, match="Control character"):
        compile_layer(f"#pts {{ text-name: '{char}'; text-face-name: 'x'; }}", layer_id="pts")


def test_two_styles_of_one_name_are_refused() -> None:
    one = compile_layer("::b { line-width: 1; }", layer_id="a")
    other = compile_layer("#x { line-width: 1; }", layer_id="a-b")
    with pytest.raises(ValueError, match="two styles share a name"):
        build_map([MapLayer(one), MapLayer(other)])
    with pytest.raises(ValueError, match="two layers share an id"):
        build_map([MapLayer(one), MapLayer(one)])


# --- files

FILE_PROPERTIES = ("marker-file", "point-file", "line-pattern-file", "polygon-pattern-file")
BAD_FILES = (
    "/etc/passwd", "../secret.svg", "a/../../secret.svg", "file:///etc/passwd", "http://169.254.169.254/x.png",
    "HTTPS://example.org/a.svg", "\\\\host\\share", "C:/x.png", "~root/x.png", "[kind].svg", "icons/[kind].svg",
    "icon.svg\\0.png", "ICON.svg", "./icon.svg", "icon.svg ", "data:image/png;base64,AAAA", "/vsicurl/http://x/y.tif",
    "shape://other", "other.svg",
)  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("known", FILE_PROPERTIES)
def test_no_file_is_handed_out_but_those_that_the_operator_listed(known: str, name: str) -> None:
    assets = {"icon.svg": "/assets/icon.svg"}
    for resources in (assets, None):
        with pytest.raises(CartoError, match=r"is not one of the files|Unable to download") as caught:
            compile_layer(f"#pts {{ {known}: url('{name}'); }}", layer_id="pts", resources=resources)
        assert "/assets" not in str(caught.value)


@pytest.mark.parametrize("known", FILE_PROPERTIES)
def test_a_listed_file_is_named_by_its_path(known: str) -> None:
    style = compile_layer(
        f"#pts {{ {known}: url(icon.svg); }}", layer_id="pts", resources={"icon.svg": "/assets/icon.svg"}
    )
    assert style.files == ("/assets/icon.svg",)
    assert style.styles[0].rules[0].symbolizers[0].attributes == {"file": "/assets/icon.svg"}


def test_the_background_of_the_map_and_shields_are_files_too() -> None:
    for css in (
        "Map { background-image: url(/etc/x.png); } #pts { line-width: 1; }",
        "#pts { shield-file: url(/etc/x.png); shield-face-name: 'x'; }",
    ):
        with pytest.raises(CartoError, match="is not one of the files"):
            compile_layer(css, layer_id="pts")


def test_properties_of_the_map_that_reach_the_server_are_ignored_with_a_warning() -> None:
    css = "Map { base: '/etc'; font-directory: url(/etc); srs: '+init=x'; maximum-extent: '0,0,1,1'; } #p{line-width:1}"
    style = compile_layer(css, layer_id="p")
    assert style.map_properties == {}
    assert len(style.messages) == 4


def test_built_in_shapes_need_no_file() -> None:
    style = compile_layer("#pts { marker-file: url(shape://arrow); }", layer_id="pts")
    assert style.files == ()


def test_relative_names_are_for_looking_only_and_lead_nowhere_else() -> None:
    assert relative_names("icons/[kind].svg") == "icons/[kind].svg"
    for name in ("/etc/passwd", "../x", "a/../b", "file:x", "http://x/y", "[x]/y", "~x", "\\x"):
        with pytest.raises(RefusedResource):
            relative_names(name)
    with pytest.raises(RefusedResource):
        listed_assets({})("icon.svg")


def test_assets_are_the_pictures_below_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "assets"
    (folder / "icons").mkdir(parents=True)
    outside = tmp_path / "secret.svg"
    for path in (folder / "a.svg", folder / "icons" / "b.PNG", folder / "notes.txt", outside):
        path.write_text("x")
    (folder / "link.svg").symlink_to(outside)
    assert list_assets(folder) == {
        "a.svg": str(folder / "a.svg"),
        "icons/b.PNG": str(folder / "icons" / "b.PNG"),
    }
    assert list_assets(None) == {}
    with pytest.raises(ConfigurationError, match="is not a directory"):
        list_assets(tmp_path / "missing")


# --- nothing but CartoError

PIECES = (
    "#pts", ".a", "*", "Map", "::x", "[", "]", "{", "}", "(", ")", ";", ":", ",", "a", "=", "!=", "<=", "=~", "zoom", "1",
    "-1", "5%", "3px", "#fff", "#", "@a", "@", "'x'", '"', "'", "url(", "url(a.png)", "rgb(1,2,3)", "lighten(red,5)",
    "stop(1,red)", "scale(2)", "line-width", "marker-fill", "text-name", "text-face-name", "image-filters", "comp-op",
    "x/line-width:2;", "line-width:1;", "@a:1;", "/*", "*/", "//", "\n", " ", "+", "-", "*", "/", "%", "[a]", "[a] + 1",
    "null", "none", "auto", "true", "\\", "é", "polygon-pattern-file", "raster-colorizer-stops", "marker-transform",
)  # fmt: skip
SOUP = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
MIXED = st.one_of(SOUP, st.text(max_size=60), st.text(string.printable, max_size=80))


def compiled_or_refused(css: str, version: str) -> tuple[LayerStyle | None, tuple[Message, ...]]:
    try:
        return compile_layer(css, layer_id="pts", version=version, resources=relative_names), ()
    except CartoError as error:
        return None, error.messages


@settings(max_examples=20_000 if NIGHTLY else 1_500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(css=MIXED, version=st.sampled_from(("2.0.0", "2.0.1", "2.3.0", "3.0.12")))
def test_no_text_raises_anything_but_a_carto_error_or_takes_long(css: str, version: str) -> None:
    start = time.process_time()
    style, messages = compiled_or_refused(css, version)
    assert (style is None) == bool(messages)
    assert all(message.severity == "error" and message.text for message in messages)
    if style is not None:
        ET.fromstring(build_map([MapLayer(style)]))
        evaluate(css, "pts", {"a": 1.0}, 5, version=version)
        if version == "3.0.12":
            parse(css)
            columns(css, deep=True)
    assert time.process_time() - start < 2


@settings(max_examples=5_000 if NIGHTLY else 400, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_a_carto_error(data: bytes) -> None:
    style, messages = compiled_or_refused(data.decode("utf-8", "surrogateescape"), "3.0.12")
    assert (style is None) == bool(messages)
