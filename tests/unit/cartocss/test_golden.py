"""Small stylesheets with the rules they must give, one line a rule: scales; filter; symbolizers."""

from __future__ import annotations

import time
from xml.etree import ElementTree as ET

import pytest

from flowmaps.cartocss import CartoError, MapLayer, build_map, compile_layer, relative_names
from flowmaps.cartocss.style import LayerStyle, Rule, Style


def printed(rule: Rule) -> str:
    scales = " ".join(
        f"{name} {value}" for name, value in (("max", rule.max_scale), ("min", rule.min_scale)) if value is not None
    )
    symbolizers = []
    for symbolizer in rule.symbolizers:
        parts = [symbolizer.name.removesuffix("Symbolizer")]
        attributes = dict(symbolizer.attributes)
        if symbolizer.fontset is not None:
            attributes["fontset-name"] = f"fontset-{symbolizer.fontset}"
        parts += [f'{name}="{value}"' for name, value in sorted(attributes.items())]
        if symbolizer.text is not None:
            parts.append(f"content {symbolizer.text}")
        parts += ["stop " + " ".join(f'{name}="{value}"' for name, value in sorted(stop)) for stop in symbolizer.stops]
        symbolizers.append(" ".join(parts))
    return "; ".join((scales, rule.filter, " · ".join(symbolizers)))


def rules_of(style: Style) -> list[str]:
    return [printed(rule) for rule in style.rules]


def pts(css: str, *, layer_id: str = "pts", version: str = "3.0.12") -> LayerStyle:
    return compile_layer(css, layer_id=layer_id, classes=["pts"], version=version, resources=relative_names)


def only(css: str, *, layer_id: str = "pts", version: str = "3.0.12") -> list[str]:
    (style,) = pts(css, layer_id=layer_id, version=version).styles
    return rules_of(style)


def test_zoom_times_filter() -> None:
    css = (
        '#pts{marker-width:4;[zoom>=9]{marker-width:8;[kind="well"]{marker-fill:#1f78b4;}}'
        "[zoom=12]{marker-line-width:2;}}"
    )
    assert only(css) == [
        'max 200000 min 100000; ([kind] = \'well\'); Markers fill="#1f78b4" stroke-width="2" width="8"',
        'max 1500000; ([kind] = \'well\'); Markers fill="#1f78b4" width="8"',
        "min 1500000; ([kind] = 'well'); Markers width=\"4\"",
        'max 200000 min 100000; ; Markers stroke-width="2" width="8"',
        'max 1500000; ; Markers width="8"',
        'min 1500000; ; Markers width="4"',
    ]


def test_specificity_counts_ids_then_classes_then_filters_then_position() -> None:
    css = """
    .pts{marker-fill:#aaa;marker-width:3;}
    #pts {marker-fill:#bbb;}
    #pts[year>=2010]{marker-fill:#ccc;}
    .pts[year>=2010][kind="well"]{marker-fill:#ddd;marker-width:9;}
    #pts[kind="well"]{marker-fill:#eee;}
    """
    style = compile_layer(css, layer_id="pts", classes=["pts"]).styles[0]
    assert rules_of(style) == [
        '; ([kind] = \'well\') and ([year] >= 2010); Markers fill="#eeeeee" width="9"',
        '; ([kind] = \'well\'); Markers fill="#eeeeee" width="3"',
        '; ([year] >= 2010); Markers fill="#cccccc" width="3"',
        '; ; Markers fill="#bbbbbb" width="3"',
    ]


def test_attachments_are_styles_in_order_of_their_first_declaration() -> None:
    css = (
        "#pts::halo{marker-width:12;}#pts{marker-width:6;::top{marker-width:2;::dot{marker-width:1;}}}"
        "#pts::halo{marker-fill:#fff;}"
    )
    styles = pts(css).styles
    assert [(style.name, *rules_of(style)) for style in styles] == [
        ("pts-halo", '; ; Markers fill="#ffffff" width="12"'),
        ("pts", '; ; Markers width="6"'),
        ("pts-top", '; ; Markers width="2"'),
        ("pts-top/dot", '; ; Markers width="1"'),
    ]


def test_instances_are_symbolizers_of_their_own() -> None:
    css = (
        "#road{case/line-width:6;case/line-color:#333;line-width:4;line-color:#fff;"
        '[class="main"]{case/line-width:9;line-width:7;}}'
    )
    assert only(css, layer_id="road") == [
        '; ([class] = \'main\'); Line stroke="#333333" stroke-width="9" · Line stroke="#ffffff" stroke-width="7"',
        '; ; Line stroke="#333333" stroke-width="6" · Line stroke="#ffffff" stroke-width="4"',
    ]


def test_first_of_a_block_and_later_of_two_blocks_wins() -> None:
    css = (
        "Map{background-color:#fff;}Map{background-color:#000;buffer-size:32;}"
        "#pts{marker-width:3;marker-width:5;}#pts{marker-fill:#f00;}#pts{marker-fill:#0f0;}"
    )
    style = pts(css)
    assert style.map_properties == {"background-color": "#ffffff", "buffer-size": "32"}
    assert rules_of(style.styles[0]) == ['; ; Markers fill="#00ff00" width="3"']


def test_variables_take_their_first_definition() -> None:
    css = (
        "@w:2;@base:#3366cc;#pts{marker-width:@w * 3 + 1;marker-fill:lighten(@base,15%);"
        "marker-line-color:fadeout(spin(@base,40),25%);}@w:5;"
    )
    style = pts(css)
    assert rules_of(style.styles[0]) == ['; ; Markers fill="#7094db" stroke="rgba(102, 51, 204, 0.75)" width="7"']
    assert any("@w is defined before" in message.text for message in style.messages)


def test_classes_of_one_field() -> None:
    css = (
        "#pop{polygon-fill:#800026;[d<=100]{polygon-fill:#fd8d3c;}[d<=50]{polygon-fill:#fed976;}"
        "[d<=10]{polygon-fill:#ffffcc;}}"
    )
    assert only(css, layer_id="pop") == [
        '; ([d] <= 10); Polygon fill="#ffffcc"',
        '; ([d] <= 50); Polygon fill="#fed976"',
        '; ([d] <= 100); Polygon fill="#fd8d3c"',
        '; ; Polygon fill="#800026"',
    ]
    backwards = (
        "#pop{polygon-fill:#800026;[d<=10]{polygon-fill:#ffffcc;}[d<=50]{polygon-fill:#fed976;}"
        "[d<=100]{polygon-fill:#fd8d3c;}}"
    )
    assert only(backwards, layer_id="pop") == [
        '; ([d] <= 100); Polygon fill="#fd8d3c"',
        '; ; Polygon fill="#800026"',
    ]


def test_two_dimensions_multiply() -> None:
    css = (
        '#pts{marker-fill:#999;[kind="a"]{marker-fill:#f00;}[kind="b"]{marker-fill:#0f0;}'
        "marker-width:4;[users>10]{marker-width:8;}}"
    )
    assert only(css) == [
        '; ([users] > 10) and ([kind] = \'b\'); Markers fill="#00ff00" width="8"',
        '; ([users] > 10) and ([kind] = \'a\'); Markers fill="#ff0000" width="8"',
        '; ([users] > 10); Markers fill="#999999" width="8"',
        '; ([kind] = \'b\'); Markers fill="#00ff00" width="4"',
        '; ([kind] = \'a\'); Markers fill="#ff0000" width="4"',
        '; ; Markers fill="#999999" width="4"',
    ]


def test_commas_and_contradictions() -> None:
    css = '#pts[kind="a"],#pts[kind="b"]{marker-width:4;[kind="a"][ok=true],[kind!="a"]{marker-fill:#0f0;}}'
    assert only(css) == [
        '; ([kind] = \'a\') and ([ok] = true); Markers fill="#00ff00" width="4"',
        '; ([kind] = \'b\'); Markers fill="#00ff00" width="4"',
        "; ([kind] = 'a'); Markers width=\"4\"",
    ]


def test_filter_spelling() -> None:
    css = """#pts["mapnik::geometry_type"=polygon]['a b'>-1.5e2][name=~"O'.*"][note!=null]{marker-width:4;}"""
    (style,) = pts(css).styles
    assert style.rules[0].filter == (
        "([mapnik::geometry_type] = polygon) and ([a b] > -150) and ([name].match('O\\'.*')) and ([note] != null)"
    )


def test_expressions_keep_their_parentheses() -> None:
    css = (
        '#pts{marker-width:([users] + 1) * 2;text-name:[name] + " (" + [users] + ")";'
        'text-face-name:"DejaVu Sans Book";}'
    )
    style = pts(css)
    assert rules_of(style.styles[0]) == [
        "; ; Markers width=\"([users]+1)*2\" · Text face-name=\"DejaVu Sans Book\" content [name]+' ('+[users]+')'"
    ]
    assert style.columns == ("users", "name")


def test_style_level_properties_hold_for_the_attachment() -> None:
    css = (
        '#pts{marker-width:4;comp-op:multiply;[kind="a"]{comp-op:screen;opacity:.5;image-filters:agg-stack-blur(2,2);}}'
    )
    (style,) = pts(css).styles
    assert dict(style.attributes) == {"comp-op": "screen", "image-filters": "agg-stack-blur(2,2)", "opacity": "0.5"}
    assert rules_of(style) == ['; ; Markers width="4"']


def test_font_sets_and_escaping() -> None:
    css = (
        '@f:"DejaVu Sans Bold","DejaVu Sans Book";#pts[name="R&B <x>"]{text-name:"[name]";'
        'text-face-name:@f;text-wrap-character:"_";text-size:10px;}'
    )
    style = pts(css)
    assert style.fontsets == (("DejaVu Sans Bold", "DejaVu Sans Book"),)
    assert rules_of(style.styles[0]) == [
        '; ([name] = \'R&B <x>\'); Text fontset-name="fontset-0" size="10" wrap-character="_" content [name]'
    ]
    root = ET.fromstring(build_map([MapLayer(style)]))
    assert root.findtext(".//Filter") == "([name] = 'R&B <x>')"


def test_raster_stops() -> None:
    css = (
        "#dem{raster-opacity:.8;raster-colorizer-default-mode:linear;raster-colorizer-default-color:transparent;"
        "raster-colorizer-stops:stop(0,#006400) stop(500,yellow,exact) stop(1000);}"
    )
    assert only(css, layer_id="dem") == [
        (
            '; ; Raster default-color="rgba(0, 0, 0, 0)" default-mode="linear" opacity="0.8" '
            'stop color="#006400" value="0" stop color="#ffff00" mode="exact" value="500" stop value="1000"'
        )
    ]


def test_transforms_and_fields_in_file_names() -> None:
    css = '#pts{marker-transform:rotate([dir]),scale(2,1);marker-file:url("icons/[kind].svg");}'
    assert only(css) == ['; ; Markers file="icons/[kind].svg" transform="rotate([dir]), scale(2,1)"']


def test_a_whole_style_of_mapnik_2_0() -> None:
    css = (
        "#s { marker-width: 5; marker-fill:#f45; marker-line-color:#813; marker-allow-overlap:true; "
        "marker-fill-opacity: 0.3;} #s[yearcons>=2009] {marker-fill: #1F78B4; marker-line-color: #0000FF;}"
    )

    def rule(filters: str, extra: dict[str, str], fill: str, stroke: str) -> str:
        attributes = {
            "allow-overlap": "true",
            "fill-opacity": "0.3",
            "multi-policy": "whole",
            "stroke-width": "1",
            "width": "10",
            "fill": fill,
            "stroke": stroke,
            **extra,
        }
        return f"; {filters}; Markers " + " ".join(f'{name}="{attributes[name]}"' for name in sorted(attributes))

    line = {"clip": "false", "marker-type": "arrow", "placement": "line", "transform": "scale(0.5,0.5)"}
    point = {"clip": "true", "marker-type": "ellipse", "placement": "point"}
    other = {"clip": "true"}
    new, old = ("#1f78b4", "#0000ff"), ("#ff4455", "#881133")
    year = "([yearcons] >= 2009)"
    above, one = "([mapnik::geometry_type] > 1)", "([mapnik::geometry_type] = 1)"
    assert only(css, layer_id="layer0", version="2.0.0") == [
        rule(f"{year} and {above}", line, *new),
        rule(f"{year} and {one}", point, *new),
        rule(year, other, *new),
        rule(above, line, *old),
        rule(one, point, *old),
        rule("", other, *old),
    ]


def test_the_sample_map_of_2_0_doubles_its_markers() -> None:
    rules = only("#s { marker-width: 10; marker-fill: #e00050; }", layer_id="layer0", version="2.0.0")
    assert [rule.split("; ")[1] for rule in rules] == [
        "([mapnik::geometry_type] > 1)",
        "([mapnik::geometry_type] = 1)",
        "",
    ]
    assert all('width="20"' in rule and 'multi-policy="whole"' in rule and "stroke" not in rule for rule in rules)


def test_symbolizer_switches_are_not_inherited() -> None:
    assert only("#pts{line:none;line-width:2;marker:auto;[a=1]{line-color:#f00;}}") == [
        '; ([a] = 1); Line stroke="#ff0000" stroke-width="2"',
        "; ; Markers",
    ]


@pytest.mark.parametrize(
    "css",
    [
        "#pts{line-width:1 !important}",
        "#pts{line-width:+3}",
        "#pts[a==1]{line-width:1}",
        "<!-- x --> #pts{line-width:1}",
        "#pts{/* x }",
        "layer{line-width:1}",
        "#pts{LINE-WIDTH:1}",
    ],
)
def test_broken_text_is_reported(css: str) -> None:
    with pytest.raises(CartoError, match=r"style0:1:\d+ Invalid code: "):
        pts(css)


def test_ranges_of_one_selector() -> None:
    assert only("#pts[n>5][n<9]{marker-width:4;}") == ['; ([n] > 5) and ([n] < 9); Markers width="4"']
    assert only("#pts[n>8][n>5]{marker-width:4;}") == ['; ([n] > 8); Markers width="4"']
    with pytest.raises(CartoError, match="produces an invalid filter"):
        pts("#pts[n>5][n<3]{marker-width:4;}")
    assert pts("#pts[n>5]{[n<3]{marker-width:4;}}").styles == ()


def test_filters_are_not_shared_between_rulesets() -> None:
    css = "#pts[n!=4]{marker-fill:#0f0;}#pts[n>=4]{marker-width:9;}#pts{marker-line-width:1;}"
    assert only(css) == [
        '; ([n] > 4); Markers fill="#00ff00" stroke-width="1" width="9"',
        '; ([n] >= 4); Markers stroke-width="1" width="9"',
        '; ([n] != 4); Markers fill="#00ff00" stroke-width="1"',
        '; ; Markers stroke-width="1"',
    ]


def test_enumerations_keep_auto_and_none() -> None:
    assert only("#pts{marker-direction:auto;polygon-gamma-method:none;}") == [
        '; ; Markers direction="auto" · Polygon gamma-method="none"'
    ]


def test_holes_in_zoom_ranges() -> None:
    css = "#pts[zoom>=3][zoom<=10]{line-width:1;[zoom=5]{line-width:2;}[zoom>=8]{line-color:#f00;}}"
    assert only(css) == [
        'max 3000000 min 400000; ; Line stroke="#ff0000" stroke-width="1"',
        'max 25000000 min 12500000; ; Line stroke-width="2"',
        'max 100000000 min 3000000; ; Line stroke-width="1"',
    ]


def test_a_hole_that_nothing_fills_splits_the_rule() -> None:
    assert only("#pts[zoom!=5]{line-width:1;}") == [
        'min 25000000; ; Line stroke-width="1"',
        'max 12500000; ; Line stroke-width="1"',
    ]


def test_text_that_mapnik_does_not_read_is_quoted() -> None:
    assert only('#pts{text-name:"Wells of [region]";text-face-name:"DejaVu Sans Book";}') == [
        "; ; Text face-name=\"DejaVu Sans Book\" content 'Wells of [region]'"
    ]


def test_no_text_adds_elements_or_attributes() -> None:
    css = (
        "#pts{text-name:\"a]]></TextSymbolizer></Rule></Style><Layer name='x'/><Style name='y'><Rule>"
        '<TextSymbolizer face-name=\'z\'><![CDATA[b";text-face-name:"q\\" foo=\\"1";}'
    )
    root = ET.fromstring(build_map([MapLayer(pts(css))]))
    assert [layer.get("name") for layer in root.findall("Layer")] == ["pts"]
    assert [style.get("name") for style in root.findall("Style")] == ["pts"]
    assert not root.findall(".//*[@foo]")


def test_an_explosion_of_rules_is_refused_quickly() -> None:
    css = "#pts{" + "".join(f"[f{n}=1]{{{name}:1;}}" for n, name in enumerate(_NUMERIC)) + "}"
    start = time.process_time()
    with pytest.raises(CartoError, match="elements_per_attachment"):
        pts(css)
    assert time.process_time() - start < 0.5


_NUMERIC = [
    "marker-width",
    "marker-height",
    "marker-opacity",
    "marker-line-width",
    "marker-line-opacity",
    "marker-fill-opacity",
    "marker-offset",
    "marker-smooth",
    "marker-simplify",
    "marker-max-error",
    "marker-spacing",
    "line-width",
]


def test_messages_say_line_and_column_after_renaming() -> None:
    with pytest.raises(CartoError) as caught:
        compile_layer("#test_table{xxxxx;}", layer_id="layer0")
    assert str(caught.value) == "style0:1:9 Invalid code: xxxxx;"
