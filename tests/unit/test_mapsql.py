"""A map's SQL: what is let through, what its tokens become, and where an error lies."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaps.errors import InvalidSQL, Position
from flowmaps.mapsql import (
    TokenValues,
    original_offset,
    position_of,
    subquery,
    substitute_tokens,
    substitute_variables,
    vet,
    vet_expression,
)
from flowmaps.tile import TileCoord

WORLD = TokenValues.of_tile(TileCoord(0, 0, 0), srid=3857)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("select * from datapoint", {"datapoint"}),
        ("select * from public.datapoint d join lands on true;", {"datapoint", "lands"}),
        ("with x as (select * from datapoint) select * from x", {"datapoint"}),
        ("select 1", set()),
        ("select (select count(*) from a) from b where c in (select d from e)", {"a", "b", "e"}),
        ("select * from datapoint where geom && !bbox! -- !x!", {"datapoint"}),
        ("values (1)", set()),
    ],
)
def test_tables_that_a_query_reads(sql: str, tables: set[str]) -> None:
    assert set(vet(sql).tables) == tables


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) over (partition by a) from t",
        "select st_asmvt(t) from t",
        "select a::text || 'x;y' from t;",
        "select properties->>'name', properties @> '{}' from datapoint",
        "select * from generate_series(1, 3) g, lateral (select g) x",
        "select distinct on (a) * from t order by a limit 5 offset 2",
        "select case when a then 1 else 2 end, coalesce(b, 1) from t",
        "select e'\\x41', $$body; here$$, U&'\\0041'",
        "select current_date, now(), extract(epoch from a) from t",
    ],
)
def test_queries_that_read_and_compute_are_let_through(sql: str) -> None:
    assert vet(sql).sql == sql.rstrip(";")


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("select\n  pg_sleep(1)", (2, 3)),
        ("select 'é', pg_sleep(1)", (1, 13)),
        ("select * from pg_class", (1, 15)),
        ("select * from flowmaps.datapoint", (1, 15)),
        ("selec 1", (1, 1)),
        ("select 1 from", (1, 14)),
        ("select 'x'::regclass", None),
        ("select 1; drop table x", None),
        ("", None),
        ("select 1 into x", None),
        ("with x as (update t set a = 1 returning *) select * from x", None),
        ("select * from t for share", None),
        ("select current_user", (1, 8)),
        ("select \ud800", None),
        ("(" * 20_000, None),
        ("select " + "1+" * 30_000 + "1", None),
        ("select 1" + "::int" * 10_000, None),
        ("select " + "- " * 30_000 + "1", None),
        ("select 1" + " union select 1" * 4_000, None),
    ],
)
def test_what_is_refused_says_where(sql: str, place: tuple[int, int] | None) -> None:
    with pytest.raises(InvalidSQL) as caught:
        vet(sql)
    assert caught.value.sqlstate in ("42601", "42501", "54001")
    if place is not None:
        assert caught.value.position == Position(*place)
        assert f"(line {place[0]}, column {place[1]})" in caught.value.message


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_let_through_or_refused(sql: str) -> None:
    with contextlib.suppress(InvalidSQL):
        assert vet(sql).sql in sql


@pytest.mark.parametrize(
    "text", ["count(*)", "sum(v)", "max(a) - min(a)", "count(distinct a) -- x", "avg(a)::int", "(select 1)"]
)
def test_expressions_that_count(text: str) -> None:
    vet_expression(text)


@pytest.mark.parametrize(
    "text",
    ["", "1) from t where (true", "1) union select (2", "1); drop table x; --", "pg_sleep(1)", "count(*) as x",
     "1) limit (1", "1) group by (2", "(select * from pg_class)"],
)  # fmt: skip
def test_expressions_that_are_more_than_one(text: str) -> None:
    with pytest.raises(InvalidSQL):
        vet_expression(text)


# --- tokens


def test_tokens_of_the_whole_world_have_the_contracts_values() -> None:
    filled = substitute_tokens("!scale_denominator! !pixel_width! !pixel_height! !bbox! !other! '!pixel_width!'", WORLD)
    assert filled == (
        "559082264.0287178 156543.03392804097 156543.03392804097 "
        "ST_MakeEnvelope(-20037508.342789244, -20037508.342789244, 20037508.342789244, 20037508.342789244, 3857) NULL "
        "'156543.03392804097'"
    )


def test_the_box_has_its_buffer_and_the_layers_reference_system() -> None:
    values = TokenValues.of_tile(TileCoord(1, 1, 0), srid=4326, buffer_px=128)
    half = 20037508.342789244
    assert values.bbox == pytest.approx((-half / 2, -half / 2, half * 1.5, half * 1.5))
    assert values.envelope.startswith("ST_Transform(ST_MakeEnvelope(")
    assert values.envelope.endswith(", 4326)")
    assert float(values.pixel_width) == pytest.approx(156543.03392804097 / 2)
    assert float(values.scale_denominator) == pytest.approx(559082264.0287178 / 2)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", " ", "!bbox!", "!pixel_width!", "!x!", "\n", "é"]), max_size=12))
def test_places_in_filled_text_lead_back(parts: list[str]) -> None:
    sql = "".join(parts)
    filled = substitute_tokens(sql, WORLD)
    for offset, character in enumerate(filled):
        back = original_offset(sql, WORLD, offset)
        assert 0 <= back <= len(sql)
        if character in "aé\n":
            # What stands outside of tokens is found again; inside of one it is the token's start.
            assert sql[back] in (character, "!")
    assert original_offset(sql, WORLD, len(filled)) == len(sql)


def test_lines_and_columns_count_from_one() -> None:
    assert [position_of("ab\ncd", offset) for offset in (0, 1, 3, 4)] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_comment_at_the_end_does_not_swallow_the_parenthesis() -> None:
    assert subquery("select 1 -- x") == "(select 1 -- x\n) AS cdbq"


VARIABLES = TokenValues.of_tile(
    TileCoord(3, 5, 2), srid=3857, variables={"T": "it's \\ 100% !bbox! !@N!", "N": 7, "B": True}
)


def test_variables_are_literals_and_unknown_ones_null() -> None:
    assert substitute_tokens("!@N! !@B! !@zoom! !@zoom_level! !@x! !@y! !@other! !N!", VARIABLES) == (
        "'7' 'true' '3' '3' '5' '2' NULL NULL"
    )
    side = 2 * 20037508.342789244 / 8
    box = json.loads(substitute_tokens("!@bbox!", VARIABLES).strip("'"))
    assert box == pytest.approx([side, side, 2 * side, 2 * side])


def test_no_value_ends_its_literal_or_is_read_as_a_token() -> None:
    filled = substitute_tokens("select !@T!", VARIABLES)
    assert filled == r"select E'it''s \\ 100% \x21bbox\x21 \x21@N\x21'"
    # Mapnik fills tokens in a second time; it finds none.
    assert substitute_tokens(filled, VARIABLES) == filled


def test_what_is_left_for_mapnik_stays() -> None:
    assert substitute_variables("!@N! !@zoom! !bbox! !x!", {"N": 1}) == "'1' !@zoom! !bbox! !x!"


@pytest.mark.parametrize(
    "sql",
    ["select '!@T!'", 'select 1 as "!@T!"', "select 1 /* !@T! */", "select 1 -- !@T!", "select $$!@T!$$",
     "select E!@T!", "select !@T!x", "select $a$ ' !@T! $a$", "select U&'!@T!'", "select '\né' || '!@T!'"],
)  # fmt: skip
def test_a_variable_inside_quotes_is_refused_with_its_place(sql: str) -> None:
    with pytest.raises(InvalidSQL, match="is a text already") as raised:
        vet(sql)
    assert raised.value.position == position_of(sql, sql.index("!@T!"))


def test_variables_stand_wherever_a_text_may() -> None:
    sql = "select !@T!::text as é, 'é' || !@T!, f.n from t as f where n in (!@N!,!@T!) limit !@N!"
    assert vet(sql).sql == sql
    back = original_offset(sql, VARIABLES, substitute_tokens(sql, VARIABLES).index("from t"))
    assert sql[back:].startswith("from t")
