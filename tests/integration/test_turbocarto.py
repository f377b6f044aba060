"""Ramps of a real tenant's data: classes, metadata, tiles, and what is refused."""

from __future__ import annotations

import io
import math
import random
import statistics
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from PIL import Image
from psycopg import sql

from flowmaps.render.classes import classify
from flowmaps.turbocarto import Classes, Question
from flowstack.postgres import Postgres
from maps_fixtures import MapsServer, layer, maps_server

CHOICE = random.Random(3)
VALUES = [round(CHOICE.lognormvariate(2, 1), 3) for _ in range(4000)]
KINDS = [*["well"] * 50, *["tap"] * 30, *["river"] * 30, *['it\'s "odd" \\ \n'] * 5, None]
ROWS = "select * from measures"
MARKER = "marker-line-width: 0; marker-allow-overlap: true;"


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres) as running:
        rows = ",".join(
            f"({number}, {value}, {value}, {int(value)}, {value}, {quoted(kind_of(number))},"
            f" {number % 3 == 0}, now(), st_setsrid(st_makepoint({(number % 5 - 2) * 1e6}, 0), 3857))"
            for number, value in enumerate(VALUES)
        )
        running.execute(
            "create table measures (id integer, value float8, small real, whole integer, exact numeric, kind text,"
            f" flag boolean, seen timestamptz, the_geom_webmercator geometry(Point, 3857));"
            f"insert into measures values {rows};"
            "insert into measures (value, exact) values ('NaN', 'NaN'), ('Infinity', 'Infinity'),"
            " ('-Infinity', '-Infinity'), (null, null);"
            f'grant select on measures to "{running.tenant.reader.user}"'
        )
        yield running


def kind_of(number: int) -> str | None:
    """Return each kind as often as it is listed: taps and rivers are equally frequent."""
    return KINDS[number % len(KINDS)] if number < 30 * len(KINDS) else None


def quoted(text: str | None) -> str:
    return "null" if text is None else "'{}'".format(text.replace("'", "''"))


async def classes(server: MapsServer, column: str, method: str, number: int, query: str = ROWS) -> Classes:
    async with await psycopg.AsyncConnection.connect(server.tenant.conninfo_reader) as conn:
        return await classify(conn, f"({query}) as cdbq", Question(column, method, number))


async def test_quantiles_hold_equal_parts_of_the_data(server: MapsServer) -> None:
    ordered = sorted(VALUES)
    for column in ("value", "exact"):
        found = await classes(server, column, "quantiles", 5)
        assert [float(str(limit)) for limit in found.limits] == [
            ordered[math.ceil(4000 * p / 5) - 1] for p in range(1, 6)
        ]
        assert (found.minimum, found.maximum) == (ordered[0], ordered[-1])
        assert found.average == pytest.approx(statistics.fmean(VALUES))


async def test_equal_intervals_are_equally_wide(server: MapsServer) -> None:
    found = await classes(server, "value", "equal", 4)
    low, high = min(VALUES), max(VALUES)
    assert found.limits == pytest.approx([low + (high - low) * part / 4 for part in range(1, 5)])
    assert found.limits[-1] == high


async def test_head_tail_breaks_are_means_of_means(server: MapsServer) -> None:
    expected: list[float] = []
    left = VALUES
    while len(expected) < 4:
        expected.append(statistics.fmean(left))
        left = [value for value in left if value > expected[-1]]
    found = await classes(server, "value", "headtails", 4)
    # More than 3,000 distinct values are taken together, so the means are nearly those.
    assert found.limits == pytest.approx(expected, rel=0.01)
    whole = [int(value) for value in VALUES]
    expected = []
    while len(expected) < 4:
        expected.append(statistics.fmean(whole))
        whole = [value for value in whole if value > expected[-1]]
    assert (await classes(server, "whole", "headtails", 4)).limits == pytest.approx(expected)


async def test_natural_breaks_leave_less_deviation_than_quantiles(server: MapsServer) -> None:
    natural = await classes(server, "value", "jenks", 5)
    quantiles = await classes(server, "value", "quantiles", 5)
    assert len(natural.limits) == 5
    assert set(natural.limits) <= set(VALUES)
    assert natural.limits[-1] == max(VALUES)
    assert left_over(natural.limits) < 0.5 * left_over(quantiles.limits)


def left_over(limits: tuple[Any, ...]) -> float:
    low, total = -math.inf, 0.0
    for limit in limits:
        members = [value for value in VALUES if low < value <= limit]
        total += statistics.pvariance(members) * len(members) if members else 0
        low = limit
    return total


async def test_categories_are_the_most_frequent_ties_by_value(server: MapsServer) -> None:
    assert (await classes(server, "kind", "category", 3)).limits == ("well", "river", "tap")
    assert (await classes(server, "flag", "category", 2)).limits == (False, True)
    few = "select value, 7 as n from measures limit 3"
    assert (await classes(server, "n", "category", 5, few)).limits == (7,)


async def test_no_rows_have_no_classes(server: MapsServer) -> None:
    none = "select * from measures where false"
    for method in ("quantiles", "equal", "jenks", "headtails", "category"):
        assert (await classes(server, "value", method, 3, none)).limits == ()


def style(width: str = "10", fill: str = "#f00") -> str:
    return f"#layer {{\n  marker-width: {width};\n  marker-fill: {fill};\n  {MARKER}\n}}"


def test_a_map_is_drawn_with_the_classes_of_its_data(server: MapsServer) -> None:
    # One value at each of five places.
    sql_text = "select distinct on (st_x(the_geom_webmercator)) *, st_x(the_geom_webmercator) / 1e6 as place from measures where id is not null"
    created = server.create(layer(sql_text, style(fill="ramp([place], (#f00, #0f0, #00f), quantiles(3))")))
    meta = created["metadata"]["layers"][0]["meta"]
    assert "ramp" not in meta["cartocss"]
    rule = meta["cartocss_meta"]["rules"][0]
    assert {name: rule[name] for name in ("selector", "prop", "column", "mapping")} == {
        "selector": "#layer", "prop": "marker-fill", "column": "place", "mapping": ">"
    }  # fmt: skip
    assert rule["buckets"] == [
        {"filter": {"type": "range", "start": -2, "end": -1}, "value": "#f00"},
        {"filter": {"type": "range", "start": -1, "end": 1}, "value": "#0f0"},
        {"filter": {"type": "range", "start": 1, "end": 2}, "value": "#00f"},
    ]
    assert rule["stats"] == {"filter_avg": 0}
    answer = server.get(created, "2/1/1.png")
    assert answer.status_code == 200
    image = Image.open(io.BytesIO(answer.content)).convert("RGBA")
    unit = 256 / (2 * 20037508.34 / 4)
    colours = [image.getpixel((255 + round(place * 1e6 * unit), 254)) for place in (-2, -1)]
    image = Image.open(io.BytesIO(server.get(created, "2/2/1.png").content)).convert("RGBA")
    colours += [image.getpixel((round(place * 1e6 * unit), 254)) for place in (0, 1, 2)]
    red, green, blue = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)
    assert colours == [red, red, green, green, blue]


def test_tiles_keep_the_classes_of_the_creation_and_a_new_map_has_new_ones(server: MapsServer) -> None:
    server.execute(
        "create table growing (v integer, the_geom_webmercator geometry(Point, 3857));"
        "insert into growing values (1, st_setsrid(st_makepoint(0, 0), 3857)), (2, st_setsrid(st_makepoint(0, 0), 3857));"
        f'grant select on growing to "{server.tenant.reader.user}"'
    )
    item = layer("select * from growing", style("ramp([v], range(2, 20), equal(2))"))
    before = server.create(item)
    assert server.create(item)["layergroupid"] == before["layergroupid"]
    tile = server.get(before, "0/0/0.png").content
    server.execute("insert into growing select 100, the_geom_webmercator from growing")
    told = server.client.get(f"{server.url}/layergroup/{before['layergroupid']}").json()
    assert told["metadata"]["layers"] == before["metadata"]["layers"]
    after = server.create(item)
    assert after["layergroupid"].split(":")[0] != before["layergroupid"].split(":")[0]
    assert after["metadata"]["layers"][0]["meta"]["cartocss_meta"]["rules"][0]["buckets"][0]["filter"]["end"] == 50.5
    assert tile


def test_another_process_draws_the_same_classes_from_the_store(server: MapsServer) -> None:
    created = server.create(layer(ROWS, style("ramp([whole], range(2, 60), jenks(4))")))
    before = server.get(created, "0/0/0.png").content
    server.process.stop()
    server.process.start()
    server.execute(
        "insert into measures (whole, the_geom_webmercator) select 5000, the_geom_webmercator from measures limit 5"
    )
    try:
        assert server.get(created, "0/0/0.png").status_code == 200
        told = server.client.get(f"{server.url}/layergroup/{created['layergroupid']}").json()
        assert told["metadata"]["layers"] == created["metadata"]["layers"]
    finally:
        server.execute("delete from measures where whole = 5000")
    assert server.get(created, "1/0/0.png").status_code == 200
    assert before


def test_odd_categories_are_drawn_by_their_own_filter(server: MapsServer) -> None:
    created = server.create(layer(ROWS, style(fill="ramp([kind], (#f00, #0f0, #00f, #ff0, #000), category(4))")))
    buckets = created["metadata"]["layers"][0]["meta"]["cartocss_meta"]["rules"][0]["buckets"]
    assert [bucket["filter"].get("name") for bucket in buckets] == ["well", "river", "tap", KINDS[-2], None]
    odd = server.create(layer(f"select * from measures where kind = {quoted(KINDS[-2])}", created_style(created)))
    image = Image.open(io.BytesIO(server.get(odd, "0/0/0.png").content)).convert("RGBA")
    assert image.getpixel((128, 128)) == (255, 255, 0, 255)


def created_style(created: dict[str, Any]) -> str:
    text: str = created["metadata"]["layers"][0]["meta"]["cartocss"]
    return text


def test_ramps_see_what_aggregation_adds_up(server: MapsServer) -> None:
    created = server.create(
        layer(
            ROWS,
            style(
                "ramp([_cdb_feature_count], range(5, 50), quantiles(4))", "ramp([total], cartocolor(Teal), equal(5))"
            ),
            aggregation={
                "threshold": 1,
                "placement": "centroid",
                "columns": {"total": {"aggregate_function": "sum", "aggregated_column": "whole"}},
            },
        )
    )
    meta = created["metadata"]["layers"][0]["meta"]
    assert meta["aggregation"] == {"png": True, "mvt": True}
    assert [rule["buckets"][-1]["filter"]["end"] for rule in meta["cartocss_meta"]["rules"]] == [
        800, max(sum(int(v) for v in VALUES[place::5]) for place in range(5))
    ]  # fmt: skip
    assert server.get(created, "0/0/0.png").status_code == 200


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        ("ramp([nope], 1, 5)", 'unable to compute ramp, column "nope" does not exist'),
        ("ramp([kind], 1, 5, 3, jenks)", 'unable to compute ramp, column "kind" holds no numbers, which jenks needs'),
        ("ramp([seen], (1, 2), equal(2))", "holds no numbers"),
        ("ramp([value], (1, 2), wadus)", 'unable to compute ramp, Invalid method "wadus"'),
        ("ramp([value], colorbrewer(Wadus), jenks)", 'Invalid colorbrewer scheme: "Wadus"'),
        ("ramp([kind], (1, 2), category(4))", "`=` requires more or same values than filters to work."),
    ],
)
def test_what_the_data_cannot_answer_is_refused_with_its_place(server: MapsServer, width: str, reason: str) -> None:
    status, message, context = server.refused(layer(ROWS), layer(ROWS, style(width)))
    assert status == 400
    assert message.startswith('Failed to process "marker-width" property: ')
    assert reason in message
    assert (context["type"], context["subtype"]) == ("layer", "turbo-carto")
    assert {name: context["layer"][name] for name in ("id", "index", "type")} == {
        "id": "layer1", "index": 1, "type": "mapnik"
    }  # fmt: skip
    assert context["layer"]["context"] == {
        "selector": "#layer",
        "source": {"start": {"line": 2, "column": 3}, "end": {"line": 2, "column": 3 + len(f"marker-width: {width}")}},
    }


def test_an_error_beside_a_ramp_keeps_its_place(server: MapsServer) -> None:
    css = f"#layer {{\n  marker-width: ramp([value],\n    1, 9);\n  marker-fill: nonsense;\n  {MARKER}\n}}"
    status, message, context = server.refused(layer(ROWS, css))
    assert status == 400
    assert message.startswith("style0:4:")
    assert context["subtype"] == "style"


def test_a_question_that_takes_too_long_ends(server: MapsServer) -> None:
    heavy = "select a.* from measures a, measures b, measures c"
    answer = server.post({"layers": [layer(heavy, style("ramp([value], 1, 5, jenks)"))]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_a_client_cannot_say_what_the_data_decided(server: MapsServer) -> None:
    item = layer(ROWS, style())
    honest = server.create(item)
    forged = server.create(
        item, resolved={"layers": {"0": {"cartocss": "x", "cartocss_meta": None, "source_columns": None}}}
    )
    assert forged["layergroupid"] == honest["layergroupid"]


def test_the_statement_names_no_table_of_the_server(server: MapsServer) -> None:
    # A column's name is quoted wherever it goes.
    hostile = 'x" from flowmaps.datapoint; drop table measures; --'
    status, message, _ = server.refused(layer(ROWS, style(f"ramp([{hostile[:50]}], 1, 5)")))
    assert (status, "first argument must name a column" in message) == (400, True)
    name = sql.Identifier("od'd; name").as_string()
    created = server.create(layer(f"select *, whole as {name} from measures", style("ramp([od'd; name], 1, 5)")))
    assert created["metadata"]["layers"][0]["meta"]["cartocss_meta"]["rules"][0]["column"] == "od'd; name"
