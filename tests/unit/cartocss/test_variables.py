"""Render variables are filled in as literals, in expressions and nowhere else."""

import pytest

from flowmaps.cartocss import LayerStyle, bind_variables, compile_layer, uses_variables

FONT = "DejaVu Sans Book"


def compiled(css: str) -> LayerStyle:
    return compile_layer(
        css, layer_id="l", variables=("zoom", "C", "N", "T"), fonts=[FONT], resources={"a@N.png": "/assets/a@N.png"}
    )


def attributes(style: LayerStyle) -> dict[str, str]:
    (symbolizer,) = style.styles[0].rules[0].symbolizers
    return {**symbolizer.attributes, "text": symbolizer.text or ""}


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("red", "'red'"),
        ("it's", r"'it\'s'"),
        ("a\\b", r"'a\\b'"),
        ("@zoom", "'@zoom'"),
        ("[name]", "'[name]'"),
        (True, "true"),
        (7, "7"),
        (-1.5, "(-1.5)"),
    ],
)
def test_a_value_is_one_literal_of_its_kind(value: str | bool | float, printed: str) -> None:
    style = bind_variables(compiled("#l { marker-fill: '@C'; marker-width: '@zoom * 2'; }"), {"C": value})
    assert attributes(style)["fill"] == printed
    # What is not given stays for Mapnik to look up.
    assert attributes(style)["width"] == "@zoom * 2"


def test_strings_fields_and_files_hold_no_variables() -> None:
    style = compiled(f"#l {{ text-name: \"[@N] + '@N' + @N\"; text-face-name: '{FONT}'; }}")
    assert attributes(bind_variables(style, {"N": 1}))["text"] == "[@N] + '@N' + 1"
    marker = compiled("#l { marker-file: url(a@N.png); }")
    assert attributes(bind_variables(marker, {"N": 1}))["file"] == "/assets/a@N.png"


def test_a_longer_name_is_another_variable() -> None:
    style = compile_layer("#l { marker-width: '@N + @N2'; }", layer_id="l", variables=("N", "N2"))
    assert attributes(bind_variables(style, {"N": 1}))["width"] == "1 + @N2"


def test_a_style_tells_which_variables_it_uses() -> None:
    style = compiled("#l { marker-width: '@zoom'; marker-fill: '@C'; }")
    assert uses_variables(style, ["zoom"])
    assert not uses_variables(style, ["N"])
    assert not uses_variables(bind_variables(style, {"zoom": 3}), ["zoom"])
