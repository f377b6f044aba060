"""Files that a style names by address: reported by the compiler with their places, and put in by whoever fetched them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from flowmaps.cartocss import CartoError, LayerStyle, MapLayer, RefusedResource, build_map, compile_layer, listed_assets

A, B = "https://images.test/a.svg", "http://images.test/b.png?x={y}"


def only_test(address: str) -> None:
    if "images.test" not in address:
        raise RefusedResource(f"Unable to download '{address}': not here")


def compiled(css: str, version: str = "3.0.12") -> LayerStyle:
    resources = listed_assets({"local.svg": "/assets/local.svg"}, only_test)
    return compile_layer(css, layer_id="pts", version=version, resources=resources)


def test_addresses_are_told_with_their_first_place() -> None:
    style = compiled(f'#pts {{ marker-width: 2;\n marker-file: url("{A}");\n [a=1] {{ marker-file: url("{B}"); }} }}')
    assert set(style.addresses) == {A, B}
    assert (style.addresses[A].line, style.addresses[A].column) == (2, 1)
    assert style.addresses[B].line == 3
    assert style.files == ()


def test_files_take_the_place_of_addresses_where_a_file_is_meant() -> None:
    style = compiled(
        f"Map {{ background-image: url('{A}'); }}\n"
        f"#pts {{ marker-file: url('{A}'); text-name: '{A}'; text-face-name: 'x'; point-file: url(local.svg); }}"
    )
    assert style.files == ("/assets/local.svg",)
    drawn = style.with_files({A: "/kept/1.svg"})
    assert not drawn.addresses
    root = ET.fromstring(build_map([MapLayer(drawn)]))
    assert root.get("background-image") == "/kept/1.svg"
    assert next(root.iter("MarkersSymbolizer")).get("file") == "/kept/1.svg"
    assert next(root.iter("PointSymbolizer")).get("file") == "/assets/local.svg"
    assert A in (next(root.iter("TextSymbolizer")).text or "")


def test_no_map_is_made_of_a_style_without_its_files() -> None:
    with pytest.raises(ValueError, match="no files are known for the addresses"):
        build_map([MapLayer(compiled(f"#pts {{ marker-file: url('{A}'); }}"))])


def test_addresses_that_are_not_drawn_are_not_told() -> None:
    style = compiled(f".other {{ marker-file: url('{A}'); }} #pts {{ marker-file: url('{B}'); }}")
    assert set(style.addresses) == {B}


@pytest.mark.parametrize("version", ["2.0.0", "2.0.3", "2.1.1", "2.2.0", "2.3.0", "3.0.6"])
@pytest.mark.parametrize("written", ["url('{}')", 'url("{}")', "'{}'", "url({})"])
def test_addresses_survive_the_way_from_older_versions(version: str, written: str) -> None:
    address = "http://images.test/a.png?marker-width=3&x=1"
    style = compiled(f"#pts {{ marker-file: {written.format(address)}; }}", version=version)
    assert set(style.addresses) == {address}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("url('http://other.test/a.png')", "not here"),
        ("url('http://images.test/[name].png')", "must not hold a field"),
        ("url('http://[name]/a.png')", "must not hold a field"),
        ("url('http://images.test/a]b.png')", "must not hold a field"),
        ("'http://images.test/' + [name]", "must not hold a field"),
        ("[name] + '://images.test/'", "must not hold a field"),
        (f"url('http://images.test/{'x' * 2048}')", "more than 2048 characters"),
    ],
)
def test_other_addresses_are_errors_at_their_place(value: str, reason: str) -> None:
    with pytest.raises(CartoError, match=reason) as caught:
        compiled(f"#pts {{\n  marker-file: {value};\n}}")
    (message,) = caught.value.messages
    assert (message.line, message.column) == (2, 2)
    assert message.text.startswith("Unable to download")


def test_a_host_in_brackets_is_no_field() -> None:
    with pytest.raises(CartoError, match="not here"):
        compiled("#pts { marker-file: url('http://[::1]:80/a.png'); }")
