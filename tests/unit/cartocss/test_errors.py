"""Every error says what, where and in which layer; all errors of a text come in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flowmaps.cartocss import CartoError, Message, compile_layer, compile_style
from flowmaps.cli import app
from flowmaps.errors import InvalidCartoCSS

LINE_CAP = (
    "{} Invalid value for line-cap, the type keyword (options: butt, round, square) is expected. "
    "rond (of type keyword) was given. Did you mean round?"
)


def errors_of(css: str, *, layer_id: str = "pts") -> tuple[Message, ...]:
    with pytest.raises(CartoError) as caught:
        compile_layer(css, layer_id=layer_id)
    return caught.value.messages


def texts(css: str) -> list[str]:
    return [str(message) for message in errors_of(css)]


def test_an_error_carries_message_layer_line_column_and_the_offending_text() -> None:
    (message,) = errors_of("#pts {\n  marker-width: 3;\n  line-widht: 4;\n}")
    assert message == Message(
        "error",
        "Unrecognized rule: line-widht. Did you mean line-width?",
        "style0",
        line=3,
        column=2,
        offset=message.offset,
        layer="pts",
        excerpt="line-widht: 4",
    )
    assert message.source_line == "  line-widht: 4;"


def test_an_error_is_one_that_the_caller_can_mend() -> None:
    assert issubclass(CartoError, InvalidCartoCSS)


def test_all_errors_of_a_text_come_at_once() -> None:
    css = """#pts {
  marker-widht: 2;
  line-width: 1 !important;
  line-color: 5;
  [a = wel] { marker-fill: blu; }
  marker-opacity: @missing;
  text-name: [n];
}
#pts[b > 'x'] { polygon-fill: lighten(#fff); }
"""
    found = texts(css)
    assert found == [
        "style0:2:2 Unrecognized rule: marker-widht. Did you mean marker-width?",
        "style0:3:16 Invalid code: !important;",
        "style0:4:2 Invalid value for line-color, the type color is expected. 5 (of type float) was given.",
        "style0:5:2 wel is not a valid keyword in a filter expression",
        "style0:6:18 variable @missing is undefined",
        'style0:9:5 Cannot use operator ">" with value x',
    ]


def test_no_more_than_twenty_errors_are_collected() -> None:
    assert len(errors_of("#pts {" + "".join(f"foo-{number}: 1;" for number in range(50)) + "}")) == 20


def test_the_same_error_is_said_once() -> None:
    assert len(errors_of("#pts,#pts{foo:1}")) == 1


@pytest.mark.parametrize(
    ("css", "text"),
    [
        ("  \n ", "style0: CartoCSS is empty"),
        ("#pts{line-width:1", "style0:1:18 missing closing `}`"),
        ("#pts{line-width:1}}", "style0:1:19 missing opening `{`"),
        ("#pts[a=1{line-width:1}", "style0:1:5 Missing closing ] of filter."),
        ("#pts::a::b{line-width:1}", "style0:1:0 Encountered second attachment name."),
        ("#pts[a=1][a=2]{line-width:1}", "style0:1:10 [([a] = 1)] added to [a=…] produces an invalid filter"),
        ("#pts{marker-file:url(a b)}", "style0:1:18 Missing closing ) in URL."),
        ("#pts{foo:1}", "style0:1:6 Unrecognized rule: foo"),
        ("#pts{line-widt:1}", "style0:1:6 Unrecognized rule: line-widt. Did you mean line-width?"),
        (
            "#pts{line-cap:rond}",
            LINE_CAP.format("style0:1:6"),
        ),
        (
            "#pts{line-width:#f00}",
            "style0:1:6 Invalid value for line-width, the type float is expected. #ff0000 (of type color) was given.",
        ),
        ("#pts{text-name:[n]}", "style0:1:6 Property text-face-name required for defining text styles."),
        ("Map{line-width:1}", "style0:1:4 Rule line-width not allowed for Map."),
        ("#pts{background-color:red}", "style0:1:6 Map properties are not permitted in other rules"),
        ("#pts{line-width:@zz}", "style0:1:17 variable @zz is undefined"),
        ("@width:1;#pts{line-width:@widht}", "style0:1:26 variable @widht is undefined. Did you mean @width?"),
        ("#pts{line-width:3em}", "style0:1:17 Invalid unit: 'em'"),
        ("#pts{line-width:foo(3)}", "style0:1:17 unknown function foo()"),
        ("#pts{marker-fill:lightn(red,5)}", "style0:1:18 unknown function lightn(), did you mean lighten(2)"),
        ("#pts{marker-transform:scale(1,2,3)}", "function scale() takes 1,2 arguments and was given 3"),
        ("#pts{marker-fill:rgba(1,2)}", "incorrect number of arguments for rgba(). 4 expected."),
        ("#pts{marker-fill:rgba(1,2,red,4)}", "incorrect arguments given to rgba()"),
        ("#pts{line-width:5%+1}", "If two operands differ, the first must not be %"),
        ("#pts{line-width:2*5%}", "Percent values can only be added or subtracted from other values"),
        ("#pts{marker-fill:2-#fff}", "Can't substract or divide a color from a number"),
        ("#pts{marker-file:'a'*'b'}", "Can't subtract, divide, or multiply strings."),
        ("#pts{marker-fill:[a]+#fff}", "Can't subtract, divide, or multiply colors in expressions."),
        ("#pts{line-width:foo+1}", "Cannot do math with type keyword."),
        ("#pts[a=foo]{line-width:1}", "foo is not a valid keyword in a filter expression"),
        ("#pts[a=tru]{line-width:1}", "tru is not a valid keyword in a filter expression. Did you mean true?"),
        ("#pts[a=#fff]{line-width:1}", "#ffffff is not a valid keyword in a filter expression"),
        ("#pts[a>'x']{line-width:1}", 'Cannot use operator ">" with value x'),
        ("#pts[a=~5]{line-width:1}", 'Cannot use operator "=~" with value 5'),
        ("#pts[zoom>26]{line-width:1}", "Only zoom levels between 0 and 25 supported."),
        ("#pts{@a:1;line-width:1}", "Unrecognized rule: @a. Variables are defined at the top level only"),
        ("line-width:1;#pts{line-width:1}", "Unrecognized rule: line-width. It stands outside of any block"),
        ("#pts{line-width:50%}", "Invalid value for line-width, a percentage is not allowed here"),
        ("#pts{line-width:1;;}", "style0:1:19 Invalid code: ;"),
        ("#pts{marker-fill:ramp([n], colorbrewer(Reds))}", "unknown function ramp()"),
        (
            "#pts{text-name:'<Format>[n]</Format>';text-face-name:'x'}",
            "<Format> and other elements in a text are not supported",
        ),
        ("#pts{marker-fill:#12345}", "Invalid code: #12345"),
        ("#pts{line-width:\x01 1}", "Control character U+0001 is not allowed"),
    ],
)
def test_messages(css: str, text: str) -> None:
    found = texts(css)
    assert len(found) == 1
    assert text in found[0] + ";" if text.startswith("style0") else text in found[0]


def test_a_wrong_value_that_is_never_used_is_a_warning() -> None:
    style = compile_layer("#pts{line-width:foo}#pts{line-width:2}", layer_id="pts")
    assert [message.severity for message in style.messages] == ["warning"]
    assert "Invalid value for line-width" in style.messages[0].text


def test_warnings_are_returned_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    css = "@a: 1; @a: 2; #pts { line-width: @a; [n = 1] { comp-op: screen; } } #pts[zoom = '5'] { line-cap: round; }"
    style = compile_layer(css, layer_id="pts")
    assert [message.text for message in style.messages] == [
        "variable @a is defined before; the first definition counts",
        "comp-op holds for the whole attachment, whatever the filter",
        "[zoom] compared with something else than a number filters on a data field",
    ]
    assert capsys.readouterr() == ("", "")


def test_a_selector_that_matches_no_layer_is_a_warning() -> None:
    (style,) = compile_style("#pts { line-width: 1; } #roads { line-width: 2; }", ["pts"])
    assert [message.text for message in style.messages] == ["This selector matches no layer"]


def test_errors_of_all_layers_come_at_once_each_with_its_layer() -> None:
    with pytest.raises(CartoError) as caught:
        compile_style("#a { line-width: foo; } #b { line-cap: bar; }", ["a", "b"])
    assert [message.layer for message in caught.value.messages] == ["a", "b"]


def test_a_missing_column_is_found_at_its_first_use_with_a_suggestion() -> None:
    css = "#pts[staus='ok'] { marker-width: [users]; }\n#pts { text-name: '[nam]'; text-face-name: 'x'; }"
    style = compile_layer(css, layer_id="pts")
    assert style.columns == ("staus", "users", "nam")
    assert [str(message) for message in style.missing_columns(["status", "users", "name", "geom"])] == [
        'style0:1:5 column "staus" does not exist. Did you mean status?',
        'style0:2:7 column "nam" does not exist. Did you mean name?',
    ]


def test_positions_count_in_the_text_with_ids_bound_or_in_the_source() -> None:
    css = "#a_long_name{foo:1}"
    with pytest.raises(CartoError, match=r"^style0:1:4 "):
        compile_layer(css, layer_id="p")
    with pytest.raises(CartoError, match=r"^style0:1:13 "):
        compile_layer(css, layer_id="p", source_positions=True)


def test_the_place_of_a_message_is_always_in_the_authors_text() -> None:
    css = "#a_long_name\n{ line-width: 1 } #b{foo:1}"
    with pytest.raises(CartoError, match=r"^style0:1:25 ") as caught:
        compile_layer(css, layer_id="p")
    (message,) = caught.value.messages
    assert message.place is not None
    assert css.split("\n")[message.place.line - 1][message.place.column :] == "foo:1}"


def test_positions_in_a_style_of_an_old_version_are_those_of_its_text() -> None:
    css = "#s {\n  marker-width: 10;\n}\n#s [a=1] {\n  marker-widht: 3;\n}\n"
    with pytest.raises(CartoError) as caught:
        compile_layer(css, layer_id="layer0", version="2.0.0")
    (message,) = caught.value.messages
    assert (message.line, message.column) == (5, 2)


# --- the command


def test_the_command_prints_the_map(tmp_path: Path) -> None:
    file = tmp_path / "style.mss"
    file.write_text("#pts { marker-width: 3; }")
    done = CliRunner().invoke(app, ["cartocss", str(file)])
    assert done.exit_code == 0
    assert '<MarkersSymbolizer width="3" />' in done.stdout


def test_the_command_prints_errors_as_a_compiler_does(tmp_path: Path) -> None:
    file = tmp_path / "style.mss"
    file.write_text("#pts {\n\tmarker-widht: 3;\n  line-cap: rond;\n}\n")
    done = CliRunner().invoke(app, ["cartocss", str(file)])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{file}:2:2: error: Unrecognized rule: marker-widht. Did you mean marker-width?",
        "        marker-widht: 3;",
        "        ^",
        LINE_CAP.format(f"{file}:3:3: error:"),
        "    line-cap: rond;",
        "    ^",
        "2 errors",
    ]


def test_the_command_prints_warnings_beside_the_map(tmp_path: Path) -> None:
    file = tmp_path / "style.mss"
    file.write_text("@w: 1;\n@w: 2;\n#pts { line-width: @w; }\n")
    done = CliRunner().invoke(app, ["cartocss", str(file), "--layer-id", "wells"])
    assert done.exit_code == 0
    assert '<Layer name="wells">' in done.stdout
    assert done.stderr.startswith(f"{file}:2:1: warning: variable @w is defined before")


def test_the_command_refuses_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "style.mss"
    file.write_bytes(b"\xff\xfe\x00")
    done = CliRunner().invoke(app, ["cartocss", str(file)])
    assert done.exit_code == 2
    assert "UTF-8" in done.stderr
