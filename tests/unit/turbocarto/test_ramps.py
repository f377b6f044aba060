"""Ramps become the filters that turbo-carto makes of them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flowmaps.cartocss import compile_layer
from flowmaps.errors import InvalidRamp
from flowmaps.turbocarto import Classes, Question, read_ramps
from flowstack.npm import node_modules
from flowstack.packages import program

ORACLE = Path(__file__).with_name("oracle.js")
NUMBERS = [12.5, 30, 47, 80.25, 99]
ANSWERS: dict[str, list[Any]] = {
    "quantiles": NUMBERS,
    "equal": [20, 40, 60, 80, 100],
    "jenks": [11, 15, 50, 70, 99],
    "headtails": [42, 60, 81, 95, 99],
    "category": ["river", "well", "spring", "tap", "lake"],
}


def answer(question: Question, answers: dict[str, list[Any]]) -> Classes:
    limits = tuple(answers[question.method][: question.classes])
    if question.method == "category":
        return Classes(limits)
    return Classes(limits, 1, 99, 42)


def ours(css: str, answers: dict[str, list[Any]] = ANSWERS) -> dict[str, Any]:
    try:
        sheet = read_ramps(css)
        resolved = sheet.resolve({question: answer(question, answers) for question in sheet.questions})
    except InvalidRamp as error:
        return {"error": error.message}
    return {"css": resolved.cartocss, "metadata": resolved.metadata}


def theirs(cases: Sequence[str], answers: dict[str, list[Any]] = ANSWERS) -> list[dict[str, Any]]:
    done = subprocess.run(
        [program("node"), str(ORACLE), str(node_modules() / "turbo-carto")],
        input=json.dumps({"cases": list(cases), "answers": answers}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def drawn(css: str) -> list[tuple[str, ...]]:
    """Return the declarations of a stylesheet in order, each with the filter around it."""
    pattern = r"\[ ?(\S+) (\S+) ([^\]]*?) ?\] ?\{ *(\S+): ([^;}]*?);? *\}|([\w-]+): ([^;{}]+)"
    return [
        tuple(str(float(part)) if is_float(part) else part for part in match.groups() if part)
        for match in re.finditer(pattern, css)
    ]


def is_float(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text) is not None


VALUES = (
    "(4, 8, 16)", "(red)", "(#fff, #000, blue, green, #123456, #abc)", "colorbrewer(Reds)", "colorbrewer(Reds, 7)",
    "colorbrewer(Greens, 99)", "cartocolor(Bold)", "cartocolor(Antique, 2)", "cartocolor(cb_Blues, 3)", "range(1, 9)",
    "range(10, 2, 3)", "(rgb(1,2,3), rgba(4,5,6,0.5), hsl(1,2,3))", "(-1, .5, 1e3)",
)  # fmt: skip
FILTERS = (
    "(10, 20, 30)", "(10)", '("a", "b")', "(a, b, c, d)", "(true, false)", '("true", "false")', "quantiles()", "quantiles(3)",
    "equal(4)", "jenks(5)", "headtails(4)", "headtails(1)", "category(2)", "category(5)",
    "buckets([p], jenks, 4)", "buckets([q], headtails, 3)", "buckets(q, category, 3)", "buckets([q], quantiles)",
)  # fmt: skip
MAPPINGS = ("", ", >", ", >=", ", =", ", ==", ', "="', ", quantiles", ", headtails", ", category")
OLD_FORMS = (
    "colorbrewer(Reds, 7), jenks", "colorbrewer(Reds)", "(red, green, blue), headtails", "(red, green, blue), category",
    "(red, green, blue), EQUAL", "4, 18", "4, 18, 3", "4, 18, 3, equal", "4, 18, jenks", "4, 18, 3, headtails",
    "4, 100, 3, (100, 200, 1000)", "4, 100, (100, 150, 250, 200, 1000)", '4, 100, ("a", "b")', "range(2, 20, 4), jenks",
    "18, 4, 5, category",
)  # fmt: skip


def every_form() -> list[str]:
    ramps = [f"{values}, {filters}{mapping}" for values in VALUES for filters in FILTERS for mapping in MAPPINGS]
    return [f"#layer {{ marker-width: ramp([p], {ramp}); }}" for ramp in (*ramps, *OLD_FORMS)]


@pytest.mark.parametrize("limits", ["many", "few", "none", "numeric categories"])
def test_every_form_means_what_turbo_carto_makes_of_it(limits: str) -> None:
    answers = {
        "many": ANSWERS,
        "few": {method: values[:1] for method, values in ANSWERS.items()},
        "none": {method: [] for method in ANSWERS},
        "numeric categories": ANSWERS | {"category": [3, 1, 2]},
    }[limits]
    cases = every_form()
    for css, expected in zip(cases, theirs(cases, answers), strict=True):
        made = ours(css, answers)
        if "error" in expected:
            assert made.get("error") == expected["error"], css
            continue
        if expected["metadata"]["rules"][0]["mapping"].startswith("<"):
            continue  # the next test
        assert drawn(made["css"]) == drawn(expected["css"]), css
        assert made["metadata"] == without_nothing(made["metadata"], expected["metadata"]), css


def without_nothing(made: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Return *expected* with the members that JSON leaves out where JavaScript has no value."""
    for rule, wanted in zip(made["rules"], expected["rules"], strict=True):
        if not any(bucket["filter"]["type"] != "category" for bucket in wanted["buckets"]):
            # Without a default turbo-carto has taken the declaration out before it asks for its selector.
            wanted["selector"] = wanted["selector"] or rule["selector"]
        if "filter_avg" in rule["stats"]:
            wanted["stats"].setdefault("filter_avg", None)
        for bucket in wanted["buckets"]:
            if bucket["filter"]["type"] == "range":
                bucket["filter"].setdefault("end", None)
        for bucket in (*wanted["buckets"], *rule["buckets"]):
            # Our texts of colours in functions are as written, theirs are joined anew.
            if isinstance(bucket["value"], str):
                bucket["value"] = bucket["value"].replace(" ", "")
            elif isinstance(bucket["value"], float):
                bucket["value"] = round(bucket["value"], 9)
    return expected


@pytest.mark.parametrize("filters", ["headtails(4)", "quantiles(4), <", "(12.5, 30, 47, 80), <=", "jenks(2), <"])
def test_less_than_gives_each_value_below_its_own_limit_as_the_metadata_say(filters: str) -> None:
    css = f"#layer {{ marker-width: ramp([p], (1, 2, 3, 4), {filters}); }}"
    made, expected = ours(css), theirs([css])[0]
    buckets = made["metadata"]["rules"][0]["buckets"]
    assert [bucket["value"] for bucket in buckets] == [b["value"] for b in expected["metadata"]["rules"][0]["buckets"]]
    assert [bucket["filter"]["end"] for bucket in buckets[:-1]] == [
        bucket["filter"]["end"] for bucket in expected["metadata"]["rules"][0]["buckets"][:-1]
    ]
    mapping = made["metadata"]["rules"][0]["mapping"]
    blocks = [
        ("p", mapping, str(float(b["filter"]["end"])), "marker-width", str(float(b["value"]))) for b in buckets[:-1]
    ]
    assert drawn(made["css"]) == [("marker-width", str(float(buckets[-1]["value"]))), *blocks[::-1]]


def test_a_ramp_stands_where_its_declaration_stood_and_lines_stay() -> None:
    css = (
        "/* ramp([a], 1, 2) */\n@w: 3;\n#layer::glow [zoom > 4] {\n  // marker-fill: ramp([b], 1, 2);\n"
        "  marker-file: url(http://x.org/a//b.png);\n  a/marker-width: ramp([p],\n    (1, 2),\n    quantiles(2));\n"
        '  [name = "a;{b"] { marker-fill: ramp([q], (red, green), (5, 6)) } marker-opacity: @w;\n}\n'
    )
    sheet = read_ramps(css)
    assert sheet.questions == (Question("p", "quantiles", 2),)
    resolved = sheet.resolve({sheet.questions[0]: Classes((7, 9), 1, 9, 5)})
    lines = resolved.cartocss.splitlines()
    assert len(lines) == len(css.splitlines())
    assert lines[5] == "  a/marker-width: 1; [p > 7] { a/marker-width: 2; }"
    assert lines[8].strip().startswith('[name = "a;{b"] { marker-fill: red; [q > 5] { marker-fill: green; } }')
    assert [rule["selector"] for rule in resolved.metadata["rules"]] == [
        "#layer::glow [zoom > 4]",
        '#layer::glow [zoom > 4][name = "a;{b"]',
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("ramp([p])", "invalid number of arguments"),
        ("ramp()", "invalid number of arguments"),
        ("ramp([p], 5)", "invalid number of arguments"),
        ("ramp([pop_max], 8, 96, 3, (8,24,96,128))", "invalid ramp length, got 4 values, expected 3"),
        ("ramp([p], colorbrewer(Nope))", 'Invalid colorbrewer scheme: "Nope"'),
        ("ramp([p], cartocolor())", 'Invalid cartocolor scheme: ""'),
        ("ramp([p], (red, green), wadus)", 'unable to compute ramp, Invalid method "wadus"'),
        ("ramp([p], (red, green), (1, 2), !)", 'Invalid mapping "!"'),
        ("ramp([p], (red, green), (a, b, c, d))", "`=` requires more or same values than filters to work."),
        ("ramp([p], red, jenks)", "values: a tuple, a palette or range()"),
        ("ramp([p], quantiles(4), (1, 2))", '"quantiles" does not give values'),
        ("ramp([p], (1, 2), colorbrewer(Reds))", '"colorbrewer" does not give filters'),
        ("ramp([p], 1, 5, quantiles(3))", 'write range(min, max) before "quantiles"'),
        ("ramp([p], (1, 2), quantiles(1e9))", "whole, from 1 to 100"),
        ("ramp([p], (1, 2), quantiles(0))", "whole, from 1 to 100"),
        ("ramp([p], (1, 2), quantiles(2.5))", "whole, from 1 to 100"),
        ("ramp([p], range(1, 2, red))", "the number of classes must be a number"),
        ("ramp([p], range(1))", "range() needs two numbers"),
        ("ramp([p], ())", "a ramp needs values"),
        ("ramp((p), (1, 2))", "the first argument must name a column"),
        ("ramp([], (1, 2))", "the first argument must name a column"),
        (f"ramp([{'x' * 64}], (1, 2))", "the first argument must name a column"),
        ("ramp([p], buckets([p]))", "does not give values"),
        ("ramp([p], (1, 2), buckets([p]))", "Missing quantification method"),
        ("2 * ramp([p], (1, 2))", "whole value"),
        ("ramp([p], (1, 2)) + 1", "whole value"),
        ("ramp([p], (1, 2)", "a bracket is not closed"),
        ("ramp([p], (1, 2)))", "a bracket is closed that was not opened"),
        ("ramp([p], ((((((((((1))))))))))", "deeper than 8"),
        (f"ramp([p], ({', '.join('1' * 300)}))", "more than 256 values"),
    ],
)  # fmt: skip
def test_what_is_no_ramp_is_refused_with_its_place(value: str, reason: str) -> None:
    css = f"#layer {{\n  marker-width: {value};\n}}"
    with pytest.raises(InvalidRamp) as caught:
        read_ramps(css).resolve({})
    error = caught.value
    assert error.message.startswith('Failed to process "marker-width" property: ')
    assert reason in error.message
    assert (error.selector, error.start) == ("#layer", (2, 3))
    assert error.end == (2, 3 + len(f"marker-width: {value}"))


def test_a_variable_cannot_hold_a_ramp() -> None:
    with pytest.raises(InvalidRamp, match="a variable cannot hold a ramp"):
        read_ramps("@w: ramp([p], 1, 2); #layer { marker-width: @w; }")


def test_a_stylesheet_has_at_most_64_ramps() -> None:
    with pytest.raises(InvalidRamp, match="65 ramps, the limit is 64"):
        read_ramps("#layer {" + "marker-width: ramp([p], 1, 2);" * 65 + "}")


@pytest.mark.parametrize(
    "category",
    ['say "hi"', "it's", "back\\slash", "two\nlines", "tab\there", '] { marker-width: 99 } [x = "', "\u20ac\U0001f600", "\x01"],
)  # fmt: skip
def test_a_category_of_any_text_stays_one_filter(category: str) -> None:
    sheet = read_ramps("#layer { marker-width: ramp([kind], (1, 2), category(1)); }")
    resolved = sheet.resolve({sheet.questions[0]: Classes((category,))})
    style = compile_layer(resolved.cartocss, layer_id="layer0")
    rules = style.styles[0].rules
    assert [rule.symbolizers[0].attributes["width"] for rule in rules] == ["1", "2"]
    assert style.columns == ("kind",)
    assert resolved.metadata["rules"][0]["buckets"][0]["filter"]["name"] == category


def test_categories_keep_their_types() -> None:
    sheet = read_ramps("#layer { marker-width: ramp([kind], (1, 2, 3, 4, 5), category(4)); }")
    limits = (True, 7, Decimal("0.1"), "7")
    made = sheet.resolve({sheet.questions[0]: Classes(limits)}).cartocss
    assert [block[2] for block in drawn(made)[1:]] == ["true", "7.0", "0.1", '"7"']


@pytest.mark.parametrize(
    ("column", "written"), [("price", "[price > 3]"), ("my col", '["my col" > 3]'), ("zoom", '["zoom" > 3]'), ("é", '["é" > 3]')]
)  # fmt: skip
def test_a_column_of_any_name_is_a_field(column: str, written: str) -> None:
    made = ours(f"#layer {{ marker-width: ramp([{column}], (1, 2), (3, 4)); }}")["css"]
    assert written in made
    assert compile_layer(made, layer_id="layer0").columns == (column,)


def test_quoted_values_keep_their_quotes_where_they_need_them() -> None:
    made = ours('#l { text-face-name: ramp([k], ("DejaVu Sans Book", "bold", "#fff"), (a, b)); }')["css"]
    assert 'text-face-name: "DejaVu Sans Book"' in made
    assert "text-face-name: bold;" in made
    assert "text-face-name: #fff;" in made


def test_any_text_is_read_or_refused(nightly: bool) -> None:
    choice = random.Random(None if nightly else 7)
    parts = ["ramp(", "(", ")", "[p]", ",", " ", "1", "red", '"', "'", "/*", "*/", "//", "\n", "{", "}", ";", ":", "=", "url(", "[", "]", "x", "jenks"]  # fmt: skip
    read = 0
    for _ in range(200_000 if nightly else 4000):
        text = "#l { marker-width: ramp(" + "".join(choice.choices(parts, k=choice.randint(1, 25)))
        # Whatever else is raised is a defect.
        with contextlib.suppress(InvalidRamp):
            sheet = read_ramps(text)
            sheet.resolve({question: answer(question, ANSWERS) for question in sheet.questions})
            read += 1
    assert read > 100
