"""Templates of named maps: what values can become, and what they cannot."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.cartocss import CartoError, compile_layer
from flowmaps.errors import InvalidRequest
from flowmaps.maps.template import instantiate, parse_template, template_of
from flowmaps.settings import LimitSettings

LIMITS = LimitSettings()
PLACEHOLDERS = {
    "text": {"type": "sql_literal", "default": "a"},
    "column": {"type": "sql_ident", "default": "identifier"},
    "count": {"type": "number", "default": 1},
    "colour": {"type": "css_color", "default": "red"},
}


def template(sql: str = "select 1", cartocss: str = "#l { marker-width: 1; }", **members: Any) -> dict[str, Any]:
    options = {"sql": sql, "cartocss": cartocss, "cartocss_version": "3.0.12"}
    return {
        "version": "0.0.1",
        "name": "points",
        "placeholders": copy.deepcopy(PLACEHOLDERS),
        "layergroup": {"version": "1.8.0", "layers": [{"type": "mapnik", "options": options}]},
    } | members


def made(raw: dict[str, Any], **params: Any) -> dict[str, Any]:
    options: dict[str, Any] = instantiate(parse_template(raw, limits=LIMITS), params)["layers"][0]["options"]
    return options


@pytest.mark.parametrize(
    ("written", "params", "expected"),
    [
        ("'<%= text %>'", {"text": "it's"}, "'it''s'"),
        ("<%=text%>", {"text": "it's"}, "'it''s'"),
        ("'%<%= text %>%'", {"text": "x"}, "'%x%'"),
        ("'<%= text %>' || '<%= text %>'", {"text": "'"}, "'''' || ''''"),
        ("'it''s <%= text %>'", {"text": "me"}, "'it''s me'"),
        ('"<%= column %>"', {"column": 'a"b'}, '"a""b"'),
        ("<%= column %>", {"column": 'a"b'}, '"a""b"'),
        ("<%= column %>", {"column": "!bbox!"}, 'U&"\\0021bbox\\0021"'),
        ("<%= text %>", {"text": "!bbox! \\"}, "E'\\x21bbox\\x21 \\\\'"),
        ("'<%= column %>'", {"column": "it's"}, "'it''s'"),
        ("<%= count %>", {"count": 1.5}, "1.5"),
        ("<%= count %>", {"count": " 12 "}, "12"),
        ("<%= count %>", {"count": "+1e3"}, "1000.0"),
        ("<%= count %>", {"count": -2}, "(-2)"),
        ("4 -<%= count %>", {"count": -2}, "4 -(-2)"),
        ("interval '<%= count %> days'", {"count": -2}, "interval '-2 days'"),
        ("<%= colour %>", {"colour": "#fff"}, "'#fff'"),
        ("'<%= colour %>'", {"colour": "RED"}, "'red'"),
        ("'<%= text %>'", {"text": "<%= count %>"}, "'<%= count %>'"),
        ("'<%= text %>'", {}, "'a'"),
        ("'<%= text %>'", {"other": "x"}, "'a'"),
        ("1 -- it's\n, '<%= text %>'", {"text": "'"}, "1 -- it's\n, ''''"),
        ("1 /* it's /* nested */ ' */, '<%= text %>'", {"text": "'"}, "1 /* it's /* nested */ ' */, ''''"),
        ("$a$ it's $a$, '<%= text %>'", {"text": "'"}, "$a$ it's $a$, ''''"),
        ("name'<%= text %>'", {"text": "'"}, "name''''"),
    ],
)  # fmt: skip
def test_a_value_becomes_a_constant_for_its_place_in_a_query(
    written: str, params: dict[str, Any], expected: str
) -> None:
    assert made(template(f"select {written}"), **params)["sql"] == f"select {expected}"


HOSTILE = [
    "'", "''", "'; drop table datapoint; --", "' or true --", "\\' or true --", "\\", "\0", "$$", "$$ or true --", "/*", "*/ or true",
    "a' || (select string_agg(identifier, ',') from datapoint) || '", '"', '" from datapoint --', "\u02bc or 1=1", "%27", "--\n", "\n",
    "1); select pg_sleep(9); --", "!bbox!", "!@zoom!", "E'", "U&'\\0027", "é\U0001f600", "<%= text %>", "'||chr(39)||'",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "written", ["'<%= text %>'", "<%= text %>", "'x<%= text %>y'", "lower('<%= text %>')", "'<%= text %>''<%= text %>'"]
)
def test_a_hostile_literal_stays_one_literal(written: str, value: str) -> None:
    raw = template(f"select * from datapoint where survey_id = {written} and identifier = 'a'")
    before = postgast.fingerprint(made(raw)["sql"]).hex
    try:
        after = made(raw, text=value)["sql"]
    except InvalidRequest:
        assert value in ("\0", "!bbox!", "!@zoom!")
        return
    assert postgast.fingerprint(after).hex == before


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_name_stays_one_name(value: str) -> None:
    for written in ('"<%= column %>"', "<%= column %>", 'd."<%= column %>"'):
        raw = template(f"select {written} from datapoint d where {written} is not null")
        try:
            sql = made(raw, column=value)["sql"]
        except InvalidRequest:
            continue
        (statement,) = postgast.parse(sql).stmts
        select = statement.stmt.select_stmt
        assert len(select.target_list) == 1
        assert select.where_clause.WhichOneof("node") == "null_test"
        assert [item.range_var.relname for item in select.from_clause] == ["datapoint"]


@given(
    st.text(max_size=30),
    st.sampled_from(["'{}'", "{}", "a || '{}' || b", "x->>'{}'", "count({})", "'it''s {}'", "/* ' */ '{}'"]),
)
def test_no_text_changes_what_a_query_does(value: str, written: str) -> None:
    raw = template(f"select * from datapoint where survey_id = {written.format('<%= text %>')}")
    before = postgast.fingerprint(made(raw)["sql"]).hex
    try:
        after = made(raw, text=value)["sql"]
    except InvalidRequest:
        return
    assert postgast.fingerprint(after).hex == before


@pytest.mark.parametrize(
    "value",
    [
        "1; drop",
        "1 or 1=1",
        "--1",
        "1-1",
        "0x10",
        "NaN",
        "Infinity",
        "1e999",
        "",
        " ",
        "1_0",
        "١",
        True,
        None,
        [1],
        {},
        10**60,
        "1e",
        ".",
        "-",
    ],
)
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="Invalid number value for template parameter 'count'") as caught:
        made(template("select <%= count %>"), count=value)
    assert caught.value.member == "params.count"


@pytest.mark.parametrize(
    "value",
    ["#ff", "#12345", "#ggg", "rgb(1,2,3)", "reddish", "red; x: y", "identifier", "url(x)", "", 7, None, "red\n"],
)
def test_what_is_no_colour_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="Invalid css_color value for template parameter 'colour'"):
        made(template(cartocss="#l { marker-fill: <%= colour %>; }"), colour=value)


@pytest.mark.parametrize("value", [None, True, [], {}, "x" * 10_001])
def test_a_literal_is_a_text_or_a_number(value: object) -> None:
    with pytest.raises(InvalidRequest, match="Invalid sql_literal value"):
        made(template("select '<%= text %>'"), text=value)
    assert made(template("select '<%= text %>'"), text=7)["sql"] == "select '7'"


@pytest.mark.parametrize(
    ("written", "params", "expected"),
    [
        ("[survey_id = '<%= text %>'] { marker-width: 2; }", {"text": "x y"}, "[survey_id = 'x y'] { marker-width: 2; }"),
        ("[survey_id = <%= text %>] { marker-width: 2; }", {"text": "x"}, '[survey_id = "x"] { marker-width: 2; }'),
        ("[<%= column %> > <%= count %>] { marker-width: 2; }", {"column": "n", "count": -1}, "[n > -1] { marker-width: 2; }"),
        ("marker-fill: <%= colour %>;", {"colour": "#AbCdEf"}, "marker-fill: #AbCdEf;"),
        ("marker-file: url(http://x.org/<%= text %>.svg);", {"text": "pin-1"}, "marker-file: url(http://x.org/pin-1.svg);"),
        ("marker-width: ramp([n], range(2, <%= count %>), quantiles(5));", {"count": 30}, "marker-width: ramp([n], range(2, 30), quantiles(5));"),
    ],
)  # fmt: skip
def test_a_value_becomes_a_constant_for_its_place_in_a_style(
    written: str, params: dict[str, Any], expected: str
) -> None:
    assert made(template(cartocss=f"#l {{ {written} }}"), **params)["cartocss"] == f"#l {{ {expected} }}"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_text_cannot_leave_its_place_in_a_style(value: str) -> None:
    raw = template(
        cartocss="#l { marker-width: 1; [a = '<%= text %>'] { marker-width: 2; } [b = <%= text %>] { marker-width: 3; } }"
    )
    try:
        css = made(raw, text=value)["cartocss"]
    except InvalidRequest:
        return
    style = compile_layer(css, layer_id="layer0")
    assert set(style.columns) == {"a", "b"}
    assert [rule.symbolizers[0].attributes["width"] for rule in style.styles[0].rules] == ["3", "2", "1"]


@given(st.text(max_size=20))
def test_no_text_changes_what_a_style_is(value: str) -> None:
    raw = template(cartocss="#l { marker-width: 1; [a = '<%= text %>'] { marker-width: 2; } }")
    try:
        style = compile_layer(made(raw, text=value)["cartocss"], layer_id="layer0")
    except (InvalidRequest, CartoError):
        return
    assert style.columns == ("a",)
    assert len(style.styles[0].rules) == 2


@pytest.mark.parametrize("column", ["a b", "a]", "a'", 'a"', "1a", "", "a;b", "a{", "é"])
def test_a_field_of_a_style_is_a_plain_word(column: str) -> None:
    with pytest.raises(InvalidRequest, match="it cannot be the name of a field in a style"):
        made(template(cartocss="#l { [<%= column %> > 1] { marker-width: 2; } }"), column=column)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 -- <%= text %>",
        "select 1 /* <%= text %> */",
        "select $$<%= text %>$$",
        "select $a$ <%= text %> $a$",
        "select E'\\'<%= text %>'",
        "select E'a'\n'<%= text %>'",
        "select U&'\\0041<%= text %>'",
        "select '<%= nothing %>'",
        "select '<%= te xt %>'",
        "select '<%=text'",
        "select '<%= text",
    ],
)
def test_a_placeholder_where_it_cannot_be_is_refused_with_the_template(sql: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_template(template(sql), limits=LIMITS)
    assert caught.value.member


@pytest.mark.parametrize(
    "css",
    [
        "/* <%= text %> */ #l { marker-width: 1; }",
        "#l { marker-width: 1; } // <%= text %>",
        '#l { [a = "\\<%= text %>"] { marker-width: 1; } }',
    ],
)
def test_a_placeholder_where_a_style_has_none_is_refused(css: str) -> None:
    with pytest.raises(InvalidRequest, match="A placeholder cannot stand there in a style"):
        parse_template(template(cartocss=css), limits=LIMITS)


def test_placeholders_elsewhere_are_refused_and_buffer_sizes_are_numbers() -> None:
    raw = template()
    raw["layergroup"]["layers"][0]["options"]["interactivity"] = "<%= column %>"
    with pytest.raises(InvalidRequest, match="A placeholder cannot stand in"):
        parse_template(raw, limits=LIMITS)
    raw = template()
    raw["layergroup"]["buffersize"] = {"png": "<%= count %>", "mvt": 3}
    document = instantiate(parse_template(raw, limits=LIMITS), {"count": 16})
    assert document["buffersize"] == {"png": 16, "mvt": 3}


def test_styles_cannot_be_given_from_outside() -> None:
    with pytest.raises(InvalidRequest, match="Styles cannot be given"):
        made(template(), styles={"0": "#l { marker-width: 9; }"})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"version": "1.0.0"}, "Unsupported template version 1.0.0"),
        ({"version": None}, "Unsupported template version None"),
        ({"name": None}, "Missing template name"),
        ({"name": ""}, "Missing template name"),
        ({"name": "-x"}, "Invalid characters in template name '-x'"),
        ({"name": "a/b"}, "Invalid characters in template name 'a/b'"),
        ({"name": "a" * 129}, "Invalid characters in template name"),
        ({"name": 7}, "Invalid characters in template name '7'"),
        ({"layergroup": None}, "Missing layergroup"),
        ({"layergroup": {}}, "Missing or empty layers array from layergroup config"),
        ({"layergroup": {"layers": []}}, "Missing or empty layers array from layergroup config"),
        ({"layergroup": {"layers": [{"options": {}}, {}, 7]}}, "Missing `options` in layergroup config for layers: 1, 2"),
        ({"placeholders": {"1a": {"type": "number", "default": 1}}}, "Invalid characters in placeholder name '1a'"),
        ({"placeholders": {"a": {"type": "number"}}}, "Missing default for placeholder 'a'"),
        ({"placeholders": {"a": {"default": 1}}}, "Missing type for placeholder 'a'"),
        ({"placeholders": {"a": 7}}, "Missing default for placeholder 'a'"),
        ({"placeholders": {"a": {"type": "sql", "default": 1}}}, "Invalid placeholder type 'sql'"),
        ({"placeholders": {"a": {"type": "number", "default": "x"}}}, "Invalid number value for template parameter 'a': x"),
        ({"placeholders": []}, "The placeholders of a template must be an object"),
        ({"placeholders": {f"a{n}": {"type": "number", "default": 1} for n in range(101)}}, "an object of at most 100"),
        ({"auth": {"method": "token"}}, "Invalid 'token' authentication: missing valid_tokens"),
        ({"auth": {"method": "token", "valid_tokens": []}}, "Invalid 'token' authentication: no valid_tokens"),
        ({"auth": {"method": "token", "valid_tokens": [7]}}, "Invalid 'token' authentication: at most 100 texts"),
        ({"auth": {"method": "token", "valid_tokens": [""]}}, "Invalid 'token' authentication: at most 100 texts"),
        ({"auth": {"method": "magic"}}, "Unsupported authentication method: magic"),
        ({"auth": "open"}, "Unsupported authentication method: None"),
        ({"view": 7}, "The view of a template must be an object"),
        ({"extra": "x" * 300_000}, "The template has 300"),
        ({"extra": "\ud800"}, "The template is not valid Unicode"),
    ],
)  # fmt: skip
def test_a_malformed_template_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("(", r"\(")):
        parse_template(template() | members, limits=LIMITS)


ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "x",
    "<%= text %>",
    "<%= nope %>",
    [],
    {},
    [{}],
    {"": {}},
    "\0",
    "\ud800",
    "é" * 200,
    {"method": {}},
)


@given(st.data())
def test_any_template_is_read_or_refused(data: st.DataObject) -> None:
    raw = template(
        "select '<%= text %>', \"<%= column %>\" from datapoint limit <%= count %>",
        "#l { marker-fill: <%= colour %>; }",
    )
    raw["layergroup"]["buffersize"] = {"png": "<%= count %>"}
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = raw
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(node[key], dict | list) or data.draw(st.booleans()):
                node[key] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
                break
            node = node[key]
    params = data.draw(st.dictionaries(st.sampled_from([*PLACEHOLDERS, "other"]), st.sampled_from(ODD), max_size=4))
    with contextlib.suppress(InvalidRequest):
        instantiate(parse_template(raw, limits=LIMITS), params)


def test_what_is_stored_is_what_was_sent_with_defaults() -> None:
    raw = template(view={"zoom": 3})
    del raw["placeholders"]
    parsed = parse_template(raw, limits=LIMITS)
    assert parsed.document == raw | {"auth": {"method": "open"}, "placeholders": {}}
    assert template_of(parsed.document) == parsed
    assert parsed.tokens is None
    closed = parse_template(template(auth={"method": "token", "valid_tokens": ["a", "b"]}), limits=LIMITS)
    assert closed.tokens == ("a", "b")
    assert instantiate(closed, None) is not closed.document["layergroup"]
