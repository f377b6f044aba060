"""The public functions: parse, columns, look-up of properties, compile_style, evaluate."""

from __future__ import annotations

import pytest

from flowmaps.cartocss import (
    CartoError,
    MapLayer,
    Property,
    build_map,
    columns,
    compile_layer,
    compile_style,
    evaluate,
    load_reference,
    parse,
    property_named,
)
from flowmaps.cartocss.tree import NumberNode


def only_attributes(css: str) -> dict[str, str]:
    (style,) = compile_layer(css, layer_id="pts").styles
    (rule,) = style.rules
    (symbolizer,) = rule.symbolizers
    return dict(symbolizer.attributes)


def test_parse_returns_a_tree_with_offsets() -> None:
    sheet = parse("@w: 2;\n#pts[a=1]::x { line-width: @w; [zoom>3] { line-width: 4; } }")
    assert [declaration.property for declaration in sheet.variables] == ["@w"]
    (ruleset,) = sheet.rulesets
    (selector,) = ruleset.selectors
    assert (selector.ids, selector.attachment, len(selector.filters)) == (("pts",), "x", 1)
    (inner,) = ruleset.rulesets
    assert inner.declarations[0].value == NumberNode(4.0, "", 61)
    with pytest.raises(CartoError, match="Invalid code"):
        parse("#pts { line-width: ! }")


def test_columns_come_once_and_those_of_filters_first() -> None:
    css = """@v: [v];
    #a { line-width: [w] + [x]; text-name: '[inside]'; line-dasharray: 4, 5; line-color: [b]; }
    #a[b=1][zoom>3]["c d"='[no]'][[e] % 2 = 0] { marker-width: [w]; marker-file: url('[icon].svg'); [b>[f]] { } }
    #a["mapnik::geometry_type"=1] { line-width: 1; }"""
    assert columns(css) == ["b", "c d", "e", "f", "v", "w", "x"]
    assert columns(css, deep=True) == ["b", "c d", "e", "f", "v", "w", "x", "inside", "icon"]


def test_columns_of_a_compiled_layer_are_those_that_its_drawing_needs() -> None:
    css = "#pts[a=1] { marker-width: [b] + 1; } #other[c=1] { marker-width: [d]; } #pts { text: none; }"
    (style,) = compile_style(css, ["pts"])
    assert style.columns == ("a", "c", "b")


def test_a_property_is_found_by_its_name() -> None:
    known = property_named("marker-width")
    assert (known.symbolizer, known.xml, known.type, known.expression) == ("markers", "width", "float", True)
    with pytest.raises(KeyError, match="did you mean marker-width"):
        property_named("marker-widht")
    with pytest.raises(KeyError, match="no property frobnicate"):
        property_named("frobnicate")
    assert "text-lang" not in load_reference("3.0.6").properties
    with pytest.raises(ValueError, match="no reference '9'"):
        load_reference("9")


def test_one_stylesheet_is_compiled_for_several_layers_by_their_own_ids_and_classes() -> None:
    css = "#a { line-width: 1; } .thick { line-width: 5; } #b { line-color: red; }"
    first, second = compile_style(css, {"a": (), "b": ("thick",)})
    attributes = [dict(style.styles[0].rules[0].symbolizers[0].attributes) for style in (first, second)]
    assert attributes == [{"stroke-width": "1"}, {"stroke": "#ff0000", "stroke-width": "5"}]
    assert build_map([MapLayer(first), MapLayer(second)]).count("<Layer ") == 2


def test_evaluate_says_what_a_feature_gets() -> None:
    css = "#pts { marker-width: 4; [n > 5][zoom >= 3] { marker-width: 9; } ::x[s = 'a'] { line-width: 1; } }"
    drawn = evaluate(css, "pts", {"n": 7.0, "s": "a"}, 3)
    assert [(item.attachment, [dict(symbolizer.attributes) for symbolizer in item.symbolizers]) for item in drawn] == [
        ("", [{"width": "9"}]),
        ("x", [{"stroke-width": "1"}]),
    ]
    drawn = evaluate(css, "pts", {"n": 7.0}, 2)
    assert [dict(symbolizer.attributes) for symbolizer in drawn[0].symbolizers] == [{"width": "4"}]


def test_zooms_outside_of_the_layers_window_are_left_out() -> None:
    css = "#pts[zoom<5] { line-width: 1; } #pts[zoom>=5] { line-width: 2; }"
    style = compile_layer(css, layer_id="pts", minzoom=6, maxzoom=9)
    assert [dict(rule.symbolizers[0].attributes) for rule in style.styles[0].rules] == [{"stroke-width": "2"}]


@pytest.mark.parametrize(
    ("declaration", "attributes"),
    [
        ("line-opacity: 50%", {"stroke-opacity": "0.5"}),
        ("line-gamma: 80%", {"stroke-gamma": "0.8"}),
        ("line-smooth: 100%", {"smooth": "1"}),
        ("marker-fill-opacity: 30% + 20%", {"fill-opacity": "0.5"}),
        ("line-width: 0.1in", {"stroke-width": "9.0714"}),
        ("line-width: 1e21", {"stroke-width": "4096"}),
        ("line-offset: -1e21", {"offset": "-1e+21"}),
        ("line-offset: 1e-7", {"offset": "1e-7"}),
        ("line-offset: 007", {"offset": "7"}),
        ("line-offset: 0.1 + 0.2", {"offset": "0.30000000000000004"}),
        ("line-offset: 3 - 1", {"offset": "2"}),
        ("line-offset: 3-1", {"offset": "2"}),
        ("line-offset: 7 % 4", {"offset": "3"}),
        ("line-offset: -(2 + 1)", {"offset": "-3"}),
        ("line-offset: -[a]", {"offset": "-[a]"}),
        ("line-offset: -([a] + 1) * 2", {"offset": "(-([a]+1))*2"}),
        ("line-offset: ([a] - [b]) - ([c] - 1)", {"offset": "([a]-[b])-([c]-1)"}),
        ("line-color: #f008", {"stroke": "rgba(255, 0, 0, 0.53)"}),
        ("line-color: #ff000080", {"stroke": "rgba(255, 0, 0, 0.5)"}),
        ("line-color: darkslategray", {"stroke": "#2f4f4f"}),
        ("line-color: lighten(#4080c0, 10%)", {"stroke": "#6699cd"}),
        ("line-color: hsl(400, .5, .5)", {"stroke": "#bf4040"}),
        ("line-color: rgb(100%, 50%, 0%)", {"stroke": "#ff8000"}),
        ("line-color: husl(120, 50%, 50%)", {"stroke": "#5e8052"}),
        ("line-color: hsluv(120, 50%, 50%)", {"stroke": "#5e8052"}),
        ("line-color: [colour]", {"stroke": "[colour]"}),
        ("line-color: 'RED'", {"stroke": "RED"}),
        ("line-width: /* pixels */ 2", {"stroke-width": "2"}),
        ("line-dasharray: 1, 2, 3", {"stroke-dasharray": "1, 2, 3"}),
        ("line-clip: 1", {"clip": "true"}),
        ("line-geometry-transform: scale(2) rotate([a])", {"geometry-transform": "scale(2), rotate([a])"}),
        ("line-join: 'round'", {"stroke-linejoin": "round"}),
        ("line-width: '@size'", {"stroke-width": "@size"}),
    ],
)
def test_values_are_printed_as_mapnik_reads_them(declaration: str, attributes: dict[str, str]) -> None:
    assert only_attributes(f"#pts {{ {declaration}; }}") == attributes


@pytest.mark.parametrize("known", load_reference().properties.values(), ids=lambda known: known.css)
def test_every_property_refuses_a_value_of_another_type(known: Property) -> None:
    value = "foo" if known.type == "tags" else "stop(1, red)"
    selector = "Map" if known.symbolizer == "map" else "#pts"
    css = f"{selector} {{ {known.css}: {value}; }}"
    if selector == "Map" and known.css in ("srs", "base", "font-directory", "maximum-extent"):
        assert "is not settable by a map here" in str(compile_layer(css, layer_id="pts").messages[0])
        return
    with pytest.raises(CartoError, match=f"Invalid value for {known.css}, the type .* is expected"):
        compile_layer(css, layer_id="pts")


@pytest.mark.parametrize("declaration", ["line-width: 3 -1", "line-width: 7%4", "line-width: 1.", "line-width: +3"])
def test_a_sign_or_point_without_its_number_is_no_value(declaration: str) -> None:
    with pytest.raises(CartoError):
        compile_layer(f"#pts {{ {declaration}; }}", layer_id="pts")


def test_variables_of_the_map_are_those_that_the_server_sets() -> None:
    css = "#pts { marker-width: '@zoom * 2'; }"
    assert compile_layer(css, layer_id="pts", variables=["zoom"]).styles[0].rules[0].symbolizers[0].attributes == {
        "width": "@zoom * 2"
    }
    with pytest.raises(CartoError, match="the variable @zoom is not set while drawing"):
        compile_layer(css, layer_id="pts", variables=[])


def test_an_at_sign_inside_a_text_is_text() -> None:
    css = "#pts { text-name: 'ask info@example-shop'; text-face-name: 'x'; }"
    style = compile_layer(css, layer_id="pts", variables=["zoom"])
    assert style.styles[0].rules[0].symbolizers[0].text == "'ask info@example-shop'"


def test_fonts_that_are_not_installed_become_the_fallback_of_the_operator() -> None:
    def faces(names: str, **options: object) -> tuple[object, tuple[tuple[str, ...], ...]]:
        style = compile_layer(
            f"#pts {{ text-name: [n]; text-face-name: {names}; }}",
            layer_id="pts",
            fonts=["Known", "Other", "Mine"],
            fallback_font="Mine",
            **options,  # type: ignore[arg-type]
        )
        return style.styles[0].rules[0].symbolizers[0].attributes.get("face-name"), style.fontsets

    assert faces("'Known'") == ("Known", ())
    assert faces("'Open Sans'") == ("Mine", ())
    assert faces("'Known', 'Other'") == (None, (("Known", "Other"),))
    assert faces("'Known', 'Open Sans'") == (None, (("Known", "Mine"),))
    with pytest.raises(CartoError, match="Invalid value for text-face-name, the type font is expected"):
        faces("'Open Sans'", strict=True)
