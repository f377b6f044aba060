"""Styles written for older versions of Mapnik are brought up to date as the tile servers of their time did."""

from __future__ import annotations

import re

import pytest

from flowmaps.cartocss import CartoError, compile_layer, upgrade

POINTS = '["mapnik::geometry_type"=1] { marker-placement:point; marker-type:ellipse; }'
OTHERS = '["mapnik::geometry_type">1] {'
ARROWS = f"{OTHERS} marker-placement:line; marker-type:arrow; marker-transform:scale(.5, .5); marker-clip:false; }}"


def upgraded(css: str, version: str) -> str:
    """Return the text after all steps, with each run of blanks as one."""
    return re.sub(r"\s+", " ", upgrade(css, version=version).text).strip()


def without_clips(text: str) -> str:
    """Return the text as it was before the last step, which writes the defaults of Mapnik 2 out."""
    return re.sub(r" (?:marker|line|polygon|text|shield)-clip: true;", "", text)


# The executed vectors of the Maps API contract; the steps to 2.1 are followed here by the one to 3.0.
def test_markers_of_2_0_are_doubled_and_get_blocks_for_each_kind_of_geometry() -> None:
    text = upgraded("#tab { marker-width:2 }", "2.0.0")
    assert without_clips(text) == f"#tab {{ marker-width:4; {POINTS} {ARROWS} marker-multi-policy:whole; }}"


def test_a_placement_of_point_without_a_blank_is_seen() -> None:
    text = without_clips(upgraded("#t{ marker-placement:point; marker-width:8}", "2.0.0"))
    assert text == (
        f"#t{{ marker-placement:point; marker-width:16; {POINTS} {OTHERS} marker-type:ellipse; marker-clip:false; }} "
        "marker-multi-policy:whole; }"
    )


def test_a_placement_of_point_with_a_blank_is_taken_for_another_one() -> None:
    text = without_clips(upgraded("#t{ marker-placement: point; marker-width:8}", "2.0.0"))
    assert f"{OTHERS} marker-type:arrow; marker-transform:scale(.5, .5); marker-clip:false; }}" in text


def test_a_block_without_markers_is_left_alone() -> None:
    assert without_clips(upgraded("#tab{ line-opacity:.5 }", "2.0.0")) == "#tab{ line-opacity:.5 ; }"


SAMPLE = "#s { marker-width: 10; marker-fill: #e00050; }"


def test_the_sample_of_2_0_0_ends_with_the_policy_and_the_clip() -> None:
    text = upgraded(SAMPLE, "2.0.0")
    assert "marker-width:20;" in text
    assert POINTS in text
    assert OTHERS in text
    assert text.endswith("marker-multi-policy:whole; marker-clip: true; }")


def test_the_sample_of_2_0_1_keeps_its_size_and_has_no_policy() -> None:
    text = upgraded(SAMPLE, "2.0.1")
    assert "marker-width: 10;" in text
    assert POINTS in text
    assert "multi-policy" not in text
    assert text.endswith("marker-clip: true; }")


@pytest.mark.parametrize("version", ["2.1.0", "2.1.1", "2.2.0", "2.3.0"])
def test_the_sample_of_later_versions_gets_the_clip_only(version: str) -> None:
    assert upgraded(SAMPLE, version) == SAMPLE.replace(" }", " marker-clip: true; }")


@pytest.mark.parametrize("version", ["3.0.0", "3.0.12", "3.0.15", "3.0.22", "4.0.0", "4.3.2"])
def test_styles_of_mapnik_3_and_4_are_left_alone(version: str) -> None:
    assert upgrade(SAMPLE, version=version).text == SAMPLE


def test_a_line_of_a_marker_gets_the_width_that_was_the_default() -> None:
    text = upgraded("#layer { marker-line-color: white; }", "2.3.0")
    assert text == "#layer { marker-line-color: white; marker-clip: true; marker-line-width: 1; }"


def test_an_outer_default_counts_for_inner_blocks() -> None:
    text = upgraded("#s { polygon-fill: red; [a=1] { polygon-fill: blue; line-width: 2; } }", "2.3.0")
    assert text == (
        "#s { polygon-fill: red; [a=1] { polygon-fill: blue; line-width: 2; line-clip: true; } polygon-clip: true; }"
    )


def test_blocks_of_one_selector_get_the_default_each() -> None:
    text = upgraded("#s { line-width: 1; line-clip: false; } #s { line-color: red; }", "2.3.0")
    assert text == "#s { line-width: 1; line-clip: false; } #s { line-color: red; line-clip: true; }"


@pytest.mark.parametrize(
    ("declaration", "added"),
    [
        ("polygon-fill: red;", "polygon-clip: true;"),
        ("polygon-pattern-file: url(a);", "polygon-pattern-clip: true; polygon-pattern-alignment: local;"),
        ("line-width: 1;", "line-clip: true;"),
        ("line-pattern-file: url(a);", "line-pattern-clip: true;"),
        ("marker-width: 1;", "marker-clip: true;"),
        ("marker-line-color: red;", "marker-clip: true; marker-line-width: 1;"),
        ("shield-size: 1;", "shield-clip: true;"),
        ("text-size: 1;", "text-clip: true; text-label-position-tolerance: 0;"),
        ("a/line-width: 1;", ""),
        ("building-height: 1;", ""),
        ("raster-opacity: 1;", ""),
        ("dot-width: 1;", ""),
    ],
)
def test_defaults_that_mapnik_3_changed(declaration: str, added: str) -> None:
    assert upgraded(f"#s {{ {declaration} }}", "2.3.0") == " ".join(f"#s {{ {declaration} {added} }}".split())


def test_the_old_word_for_the_geometry_type_becomes_the_new_name() -> None:
    css = "#t [mapnik-geometry-type=1] { line-opacity:1; }"
    assert upgraded(css, "2.1.1").startswith('#t ["mapnik::geometry_type"=1] {')
    assert upgraded(css, "2.2.0").startswith("#t [mapnik-geometry-type=1] {")


def test_marker_opacity_meant_the_fill() -> None:
    assert "marker-fill-opacity: .5" in upgraded("#t { marker-opacity: .5; }", "2.0.0")
    assert "marker-fill-opacity" not in upgraded("#t { marker-opacity: .5; }", "2.1.0")


@pytest.mark.parametrize(
    ("value", "doubled"),
    [
        ("10", "20"),
        (" 2.5", "5"),
        (".5", "1"),
        ("'3'", "'6'"),
        ("3px", "6px"),
        ("@w", "(@w) * 2"),
        ("[w]", "([w]) * 2"),
    ],
)
def test_sizes_are_doubled_and_what_is_no_number_is_multiplied(value: str, doubled: str) -> None:
    assert f"marker-width:{doubled};" in upgraded(f"#t {{ marker-width:{value}; }}", "2.0.0")


def test_names_with_an_s_are_not_taken_for_marker_properties() -> None:
    assert "geometry_type" not in upgraded("#t { marker-spacing: 5; marker-transform: 'scale(2)'; }", "2.0.0")


def test_markers_of_a_global_block_stick_to_all_later_blocks() -> None:
    text = upgraded("#t { marker-width: 5; } #t[a=1] { line-width: 1; }", "2.0.0")
    assert text.count("marker-multi-policy:whole;") == 2
    text = upgraded("#t[a=1] { marker-width: 5; } #t { line-width: 1; }", "2.0.0")
    assert text.count("marker-multi-policy:whole;") == 1


def test_comments_and_strings_are_no_markers() -> None:
    css = "/* #t { marker-width: 5; } */ #t { text-name: 'marker-width: 5;'; // marker-width: 6;\n line-width: 1; }"
    text = upgraded(css, "2.0.0")
    assert "marker-width: 5;" in text
    assert "geometry_type" not in text


def test_addresses_survive() -> None:
    css = "#t { marker-file: url(http://example.org/a.png);\n marker-width: 4; }"
    assert "url(http://example.org/a.png)" in upgraded(css, "2.0.0")


@pytest.mark.parametrize("version", ["1.0.0", "0.6", "foo", "2", "2.0", "2.4.0", "5.0.0", "3.0.x", "-2.0.0", "2.0.0\n"])
def test_there_is_no_way_from_an_unknown_version(version: str) -> None:
    with pytest.raises(CartoError, match=re.escape(f"No CartoCSS transform path from {version} to ")):
        compile_layer(SAMPLE, layer_id="s", version=version)


@pytest.mark.parametrize(
    ("version", "like"), [("", "2.0.0"), ("2.0.7", "2.0.4"), ("2.1.9", "2.1.1"), ("2.3.4", "2.3.0")]
)
def test_a_version_between_is_like_the_one_before(version: str, like: str) -> None:
    assert upgrade(SAMPLE, version=version).text == upgrade(SAMPLE, version=like).text


def test_a_style_that_does_not_parse_is_reported_by_the_compiler() -> None:
    with pytest.raises(CartoError, match="Invalid code"):
        compile_layer("#s { marker-width: 10; foo bar }", layer_id="s", version="2.3.0")


def test_ids_are_bound_to_the_layer_where_a_filter_attachment_or_block_follows() -> None:
    def bound(css: str) -> str:
        return upgrade(css, version="3.0.12", layer_id="layer0").text

    assert bound("#a{line-width:1}") == "#layer0 {line-width:1}"
    assert bound("#a [x=1]{}") == "#layer0 [x=1]{}"
    assert bound("#a::b{}") == "#layer0 ::b{}"
    assert bound("#a, #b {}") == "#a, #layer0 {}"
    assert bound("#a .x {}") == "#a .x {}"
    assert bound("#a{line-color:#f00;}") == "#layer0 {line-color:#f00;}"
    assert bound("#a{#b{x:'#c{'}} /* #d{ */") == "#layer0 {#layer0 {x:'#c{'}} /* #d{ */"
