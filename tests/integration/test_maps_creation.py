"""Creation of maps over HTTP: what is accepted, what is refused and how, and what a client is told."""

import base64
import json
import lzma
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from maps_fixtures import FILL, POINTS, RED, MapsServer, layer

LANDS = "select * from lands"
TORQUE = (
    'Map { -torque-frame-count: 2; -torque-resolution: 1; -torque-time-attribute: "created_date_time";'
    ' -torque-aggregation-function: "count(identifier)"; } #l { marker-width: 4; marker-fill: red; }'
)


def torque(sql: str = POINTS, css: str = TORQUE, **options: Any) -> dict[str, Any]:
    return {"type": "torque", "options": {"sql": sql, "cartocss": css, **options}}


def test_the_answer_describes_the_map(maps: MapsServer) -> None:
    created = maps.create(
        {"type": "http", "options": {"urlTemplate": "http://example.org/{z}/{x}/{y}.png"}},
        {"options": {"sql": POINTS, "cartocss": RED, "cartocss_version": "2.0.0"}},
        {**layer(LANDS, FILL), "type": "cartodb", "id": "land"},
        torque(),
        layer(POINTS, interactivity=["identifier"]),
        {"type": "plain", "options": {"color": [1, 2, 3]}},
    )
    token, _, buster = created["layergroupid"].partition(":")
    assert len(token) == 32
    assert int(buster) == round(datetime.fromisoformat(created["last_updated"]).timestamp() * 1000)
    assert created["last_updated"].endswith("Z")
    entries = created["metadata"]["layers"]
    assert [(entry["type"], entry["id"]) for entry in entries] == [
        ("http", "http-layer0"),
        ("mapnik", "layer0"),
        ("mapnik", "land"),
        ("torque", "torque-layer0"),
        ("mapnik", "layer2"),
        ("plain", "plain-layer0"),
    ]
    assert entries[0]["meta"] == entries[5]["meta"] == {}
    assert entries[1]["meta"].pop("stats")["estimatedFeatureCount"] > 0
    assert entries[1]["meta"] == {"cartocss": RED}
    # The reader may not look into the times of a style; they come from the data.
    times = {"start": 1577836800000, "end": 1578355200000, "steps": 2, "data_steps": 4, "column_type": "date"}
    assert entries[3]["meta"] == {**times, "cartocss": TORQUE}
    assert created["metadata"]["torque"] == {"3": entries[3]["meta"]}
    west, south, east, north = created["metadata"]["bounds"]
    assert (west, east) == pytest.approx((-180, 180), abs=0.01)
    assert (south, north) == pytest.approx((-66.5, 66.5), abs=0.1)


def test_the_addresses_in_the_answer_work(maps: MapsServer) -> None:
    created = maps.create(layer(POINTS, interactivity="identifier"), torque())
    metadata = created["metadata"]
    for entry in (metadata, *metadata["layers"]):
        for content, described in entry["tilejson"].items():
            for template in (*described["tiles"], *described.get("grids", [])):
                answer = maps.client.get(template.format(z=0, x=0, y=0))
                assert answer.status_code == 200, (content, template)
    assert metadata["url"]["raster"]["urlTemplate"] == metadata["tilejson"]["raster"]["tiles"][0]
    described = maps.client.get(f"{maps.url}/layergroup/{created['layergroupid']}").json()
    assert described == created


def test_tilejson_names_the_fields_of_each_layer(maps: MapsServer) -> None:
    created = maps.create(layer(LANDS, FILL, maxzoom=9), {**layer(POINTS), "id": "p"}, minzoom=1)
    document = maps.get(created, "tilejson.json", content="vector").json()
    assert document["tilejson"] == "3.0.0"
    assert document["vector_layers"] == [
        {
            "id": "layer0",
            "fields": {"cartodb_id": "Number", "name": "String", "100% odd": "Number"},
            "minzoom": 1,
            "maxzoom": 9,
        },
        {"id": "p", "fields": {"identifier": "String", "survey_id": "String"}, "minzoom": 1, "maxzoom": 22},
    ]
    one = maps.get(created, "p/tilejson.json", content="vector").json()
    assert [entry["id"] for entry in one["vector_layers"]] == ["p"]
    assert maps.get(created, "tilejson.json").json()["tiles"][0].endswith("/{z}/{x}/{y}.png")
    assert maps.get(created, "tilejson.json", content="nonsense").status_code in (400, 422)
    plain = maps.create({"type": "plain", "options": {"color": "red"}})
    assert maps.get(plain, "tilejson.json", content="vector").status_code == 400
    assert maps.get(plain, "tilejson.json").json()["tiles"][0].endswith("/all/{z}/{x}/{y}.png")


def test_the_same_document_is_the_same_map(maps: MapsServer) -> None:
    one = maps.create(layer(POINTS, interactivity=["identifier", "survey_id"]))
    other = maps.create(layer(POINTS, interactivity="identifier,survey_id"))
    assert one["layergroupid"] == other["layergroupid"]
    reordered = json.loads(
        json.dumps({"layers": [layer(POINTS, interactivity="identifier,survey_id")], "version": "1.8.0"})
    )
    assert maps.post(reordered).json()["layergroupid"] == one["layergroupid"]
    assert maps.create(layer(POINTS, interactivity="identifier"))["layergroupid"] != one["layergroupid"]


def test_ten_creations_at_once_make_one_map(maps: MapsServer) -> None:
    document = {"version": "1.5.0", "layers": [layer(f"{POINTS} where survey_id = 's1'")]}
    with ThreadPoolExecutor(10) as executor:
        answers = list(executor.map(lambda _: maps.post(document), range(10)))
    assert [answer.status_code for answer in answers] == [200] * 10
    assert len({answer.json()["layergroupid"] for answer in answers}) == 1


def test_a_map_without_layers_is_one(maps: MapsServer) -> None:
    created = maps.create()
    assert created["metadata"]["layers"] == []
    answer = maps.get(created, "0/0/0.png")
    assert (answer.status_code, answer.json()["errors"]) == (400, ["No 'mapnik' layers in MapConfig"])


def test_creation_by_address_is_authorised_like_any_other(maps: MapsServer) -> None:
    document = {"version": "1.8.0", "layers": [layer(POINTS)]}
    query = {"topic": maps.topic, "config": json.dumps(document)}
    url = f"{maps.url}/create-map"
    assert maps.client.get(url, params=query).status_code == 401
    assert maps.client.get(url, params=query, headers={"Authorization": "Bearer nonsense"}).status_code == 401
    answer = maps.client.get(url, params=query, headers=maps.authorization)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["layergroupid"] == maps.post(document).json()["layergroupid"]
    called = maps.client.get(url, params={**query, "callback": "made"}, headers=maps.authorization)
    assert called.text.startswith("/**/ typeof made === 'function' && made({")
    missing = maps.client.get(url, params={"topic": maps.topic}, headers=maps.authorization)
    assert missing.json()["errors"] == ['layergroup GET needs a "config" parameter']
    broken = maps.client.get(url, params={**query, "config": "{"}, headers=maps.authorization)
    assert broken.status_code == 400
    assert broken.json()["errors"][0].startswith("SyntaxError: ")
    refused = maps.client.get(url, params={**query, "config": "[]", "callback": "f"}, headers=maps.authorization)
    assert refused.status_code == 200
    assert "Missing layers array from layergroup config" in refused.text


def compressed(text: str) -> str:
    """Return the parameter lzma as carto.js writes it: a MapConfig as text in an object, 128 added to signed bytes."""
    stream = lzma.compress(json.dumps({"config": text}).encode(), format=lzma.FORMAT_ALONE)
    return base64.b64encode(bytes(byte ^ 0x80 for byte in stream)).decode()


def test_creation_by_a_compressed_address_makes_the_same_map(maps: MapsServer) -> None:
    document = {"version": "1.8.0", "layers": [layer(POINTS)]}
    url, query = f"{maps.url}/create-map", {"topic": maps.topic, "lzma": compressed(json.dumps(document))}
    assert maps.client.get(url, params=query).status_code == 401
    answer = maps.client.get(url, params={**query, "callback": "made"}, headers=maps.authorization)
    token = maps.post(document).json()["layergroupid"]
    assert answer.text.startswith("/**/ typeof made === 'function' && made({")
    assert f'"layergroupid":"{token}"' in answer.text
    assert maps.client.get(url, params=query, headers=maps.authorization).json()["layergroupid"] == token


@pytest.mark.parametrize(
    ("query", "status", "part"),
    [
        ({"lzma": "***"}, 400, "Invalid lzma parameter: it is not Base64"),
        ({"lzma": compressed("{}")[:-8]}, 400, "Invalid lzma parameter: the LZMA stream ends too early"),
        ({"lzma": compressed("{}"), "config": "{}"}, 400, "config and lzma exclude each other"),
        ({"lzma": compressed("{")}, 400, "SyntaxError: the config is not JSON"),
        ({"lzma": compressed("{}")}, 400, "Missing layers array from layergroup config"),
        ({"lzma": compressed("0" * 20_000_000)}, 413, "the text in lzma has more than 1048576 bytes"),
    ],
)
def test_compressed_addresses_that_are_no_map_are_refused(
    maps: MapsServer, query: dict[str, str], status: int, part: str
) -> None:
    answer = maps.client.get(
        f"{maps.url}/create-map", params={"topic": maps.topic, **query}, headers=maps.authorization
    )
    assert (answer.status_code, part in answer.json()["errors"][0]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("body", "kind", "status", "start"),
    [
        (b"{", "application/json", 400, "SyntaxError: "),
        (b"", "application/json", 400, "SyntaxError: "),
        (b'"text"', "application/json", 400, "the body must be an object"),
        (b"null", "application/json", 400, "the body must be an object"),
        (b'{"topic": 5, "map": {}}', "application/json", 400, "topic must be the name of a topic"),
        (b'{"topic": "x.datapoint"}', "application/json", 400, "map is missing"),
        (b'{"topic": "x.datapoint", "map": {"layers": NaN}}', "application/json", 400, "SyntaxError: "),
        (b'{"topic": "x", "map": {"layers": [], "minzoom": 1e999}}', "application/json", 400, "SyntaxError: "),
        (b'{"topic": "x", "map": {"minzoom": ' + b"9" * 400 + b"}}", "application/json", 400, "SyntaxError: "),
        (b'{"topic": "x", "map": {"minzoom": ' + b"9" * 9000 + b"}}", "application/json", 400, "SyntaxError: "),
        (b"[" * 100_000, "application/json", 400, "SyntaxError: "),
        (b"\xff\xfe{", "application/json", 400, "SyntaxError: "),
        (b"{}", "text/plain", 400, "POST data must be of type application/json"),
        (b"{}", "", 400, "POST data must be of type application/json"),
        (b"x" * 1_100_000, "application/json", 413, "the body has"),
    ],
)
def test_bodies_that_are_no_map_are_refused(maps: MapsServer, body: bytes, kind: str, status: int, start: str) -> None:
    headers = {**maps.authorization, "Content-Type": kind} if kind else maps.authorization
    # Not on the shared connection: the server closes one whose body it does not read to the end.
    answer = httpx.post(f"{maps.url}/create-map", content=body, headers=headers, timeout=30)
    assert answer.status_code == status
    assert answer.json()["errors"][0].startswith(start)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"version": "2.0.0", "layers": []}, "Unsupported layergroup configuration version 2.0.0"),
        ({"version": "abc", "layers": []}, "Unsupported layergroup configuration version abc"),
        ([], "Missing layers array from layergroup config"),
        ({}, "Missing layers array from layergroup config"),
        ({"layers": None}, "Missing layers array from layergroup config"),
        ({"layers": {}}, "Missing layers array from layergroup config"),
        ({"layers": [{}]}, "Missing options from layer 0 of layergroup config"),
        ({"layers": [layer(POINTS), None]}, "Missing options from layer 1 of layergroup config"),
        ({"layers": [], "buffersize": {"png": "1"}}, 'Buffer size of format "png" must be a number'),
    ],
)
def test_documents_that_are_no_map_are_refused(maps: MapsServer, document: object, message: str) -> None:
    answer = maps.post(document)
    assert (answer.status_code, answer.json()["errors"]) == (400, [message])
    called = maps.post(document, callback="f")
    assert (called.status_code, called.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert json.loads(called.text.partition("&& f(")[2].removesuffix(");"))["errors"] == [message]


def test_a_client_cannot_choose_databases(maps: MapsServer) -> None:
    """The first servers took the internal form of a stored map, with hosts and users in it, from clients."""
    document = {"layers": [layer(POINTS)], "version": "1.8.0"}
    poisoned = {**document, "dbparams": {"host": "evil"}, "ds": {"0": {"dbhost": "evil"}}, "salt": "x"}
    assert maps.post(poisoned).json()["layergroupid"] == maps.post(document).json()["layergroupid"]
    assert maps.post({"cfg": document, "ds": {}}).json()["errors"] == ["Missing layers array from layergroup config"]


@pytest.mark.parametrize(
    "odd", [10**18, 10**25, -1e300, "\u0000", "\ud800", "\udfff\ud800", [], {}, [None], True, "é" * 999, 1e-320]
)
def test_members_of_any_value_are_no_trouble(maps: MapsServer, odd: object) -> None:
    options: dict[str, Any] = {
        "vector_extent": odd,
        "vector_simplify_extent": odd,
        "step": odd,
        "minzoom": odd,
        "query_rewrite_data": odd,
    }
    document = {"version": "1.8.0", "layers": [layer(POINTS, **options)], "minzoom": odd, "maxzoom": odd, "x": odd}
    answer = maps.post(document)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        for path in ("0/0/0.png", "0/0/0.mvt", "tilejson.json"):
            assert maps.get(answer.json(), path).status_code in (200, 204, 400, 404), path


def test_an_unknown_tenant_has_no_maps(maps: MapsServer) -> None:
    for topic in ("nobody.datapoint", "", "x" * 10_000, "'; drop table x; --", "\u0000", "é" * 300):
        body = {"topic": topic, "map": {"layers": [layer(POINTS)]}}
        answer = maps.client.post(f"{maps.url}/create-map", json=body, headers=maps.authorization)
        assert answer.status_code == 400, topic


# --- errors that name their place


@pytest.mark.parametrize(
    ("sql", "status", "message", "place"),
    [
        ("select * from missing", 404, 'relation "missing" does not exist', (1, 15)),
        ("select *\nfrom datapoint\nwhere  nope = 1", 400, 'column "nope" does not exist', (3, 8)),
        ("  -- a comment\n select nope from datapoint", 400, 'column "nope" does not exist', (2, 9)),
        ("select * from datapoint where !bbox! is null or\n nope", 400, 'column "nope" does not exist', (2, 2)),
        ("select * form datapoint", 400, 'syntax error at or near "form"', (1, 10)),
        ("bogus", 400, 'syntax error at or near "bogus"', (1, 1)),
        ("select 1/0 as x, geom from datapoint", 400, "", None),
        ("select pg_sleep(1)", 400, "the function pg_sleep is not allowed", (1, 8)),
        ("select * from pg_authid", 400, "the relation pg_authid is not allowed", (1, 15)),
        ("insert into datapoint values (1)", 400, "only SELECT is allowed, not INSERT", None),
        ("with x as (delete from datapoint returning *) select * from x", 400, "DELETE is not allowed", None),
        ("select 1; select 2", 400, "the query holds 2 statements", None),
        ("select " + "1+" * 30_000 + "1", 400, "the query has more than 4000 operators", None),
        (";;", 400, "the query is empty", None),
        ("select * from hidden", 403, "permission denied for table hidden", None),
    ],
)
def test_errors_in_sql_say_which_layer_and_where(
    maps: MapsServer, sql: str, status: int, message: str, place: tuple[int, int] | None
) -> None:
    found, text, context = maps.refused(layer(POINTS), {**layer(sql, geom_column="geom"), "id": "second"})
    assert found == status
    assert message in text
    if status != 403 and message:
        assert context["type"] == "layer"
        assert context["subtype"] == "query"
        assert context["layer"] == {"id": "second", "index": 1, "type": "mapnik"}
    if place is not None:
        assert context["context"]["source"]["start"] == {"line": place[0], "column": place[1]}
    assert "password" not in text.lower()
    assert "Full sql" not in text


@pytest.mark.parametrize(
    ("css", "message", "place"),
    [
        ("#l { marker-width: 10;\n  marker-fil: red; }", "style1:2:2 Unrecognized rule: marker-fil", (2, 3)),
        ("#l { marker-width: }", "style1:", None),
        ("#l {\n marker-fill: nocolour; marker-width: 1 }", "style1:2:1 Invalid value for marker-fill", (2, 2)),
        ("   ", "style1: CartoCSS is empty", None),
        ("#l { marker-width: 3; ", "style1:", None),
        ("#a_long_name { foo: 1 }", "style1:1:10 Unrecognized rule: foo", (1, 16)),
    ],
)
def test_errors_in_styles_say_which_layer_and_where(
    maps: MapsServer, css: str, message: str, place: tuple[int, int] | None
) -> None:
    status, text, context = maps.refused(layer(POINTS), layer(POINTS, css))
    assert status == 400
    assert text.startswith(message)
    assert context["type"] == "layer"
    assert context["layer"] == {"id": "layer1", "index": 1, "type": "mapnik"}
    if place is not None:
        assert context["context"]["source"]["start"] == {"line": place[0], "column": place[1]}


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"geom_column": "nope"}, 400, 'Postgis Plugin: ERROR: column "nope" does not exist'),
        ({"interactivity": "nope"}, 400, 'Postgis Plugin: ERROR: column "nope" does not exist'),
        ({"cartocss": "#l[nope=1] { marker-width: 1; }"}, 400, 'Postgis Plugin: ERROR: column "nope" does not exist'),
        ({"attributes": {"id": "identifier", "columns": ["nope"]}}, 404, 'column "nope" does not exist'),
        ({"attributes": {"id": "nope", "columns": ["identifier"]}}, 404, 'column "nope" does not exist'),
        ({"attributes": {"id": "identifier"}}, 400, "The option attributes of layer 0 must be an object"),
        ({"attributes": "x"}, 400, "The option attributes of layer 0 must be an object"),
        ({"interactivity": 5}, 400, "Invalid interactivity value type for layer 0: number"),
        ({"interactivity": True}, 400, "Invalid interactivity value type for layer 0: boolean"),
        ({"interactivity": {"a": 1}}, 400, "Invalid interactivity value type for layer 0: object"),
        ({"geom_type": "cube"}, 400, "Unsupported geometry column type for layer 0: cube"),
        (
            {"geom_type": "raster", "interactivity": "identifier"},
            400,
            "Mapnik raster layers do not support interactivity",
        ),
        ({"srid": "nonsense"}, 400, "The option srid of layer 0 must be the number"),
        ({"srid": 999_999}, 400, ""),
        ({"srid": -4326}, 400, "The option srid of layer 0 must be the number"),
        ({"sql": 5}, 400, "The option sql of layer 0 must be text"),
        ({"sql": "select '\u0000'"}, 400, "The option sql of layer 0 holds a NUL character"),
        ({"sql": "select " + "1," * 40_000 + "1"}, 400, "The option sql of layer 0 has"),
        ({"geom_column": "x" * 64}, 400, "The option geom_column of layer 0 has 64 bytes"),
        ({"affected_tables": "lands"}, 400, "The option affected_tables of layer 0 must be a list"),
        ({"cartocss_version": "2.1.1.1"}, 400, "No CartoCSS transform path from 2.1.1.1 to"),
        ({"geom_column": "identifier"}, 400, ""),
    ],
)
def test_wrong_options_are_refused(maps: MapsServer, options: dict[str, Any], status: int, message: str) -> None:
    found, text, context = maps.refused(layer(POINTS, **options))
    assert (found, text.startswith(message)) == (status, True), text
    assert context["layer"]["index"] == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "foo", "options": {}}, "Unknown type foo of layer 0"),
        ({"type": 5, "options": {}}, "Unknown type 5 of layer 0"),
        ({"options": {"cartocss": RED, "cartocss_version": "2.0.0"}}, "Missing sql for layer 0 options"),
        ({"options": {"sql": POINTS, "cartocss": RED}}, "Missing cartocss_version for layer 0 options"),
        ({"options": {"sql": POINTS, "cartocss_version": "2.0.0"}}, "Missing cartocss for layer 0 options"),
        ({"type": "http", "options": {}}, 'Missing mandatory "urlTemplate" option'),
        ({"type": "http", "options": {"urlTemplate": "http://{s}/", "subdomains": ["a.b/c"]}}, "subdomains must be"),
        ({"type": "plain", "options": {}}, "Plain layer: at least one of the options, `color` or `imageUrl`, must be"),
        ({"type": "plain", "options": {"color": "no"}}, "Invalid color for 'plain' layer: Failed to parse color: \"no\""),
        ({"type": "plain", "options": {"color": []}}, "Invalid color for 'plain' layer: invalid integer array"),
        ({"type": "plain", "options": {"color": [1, 2, 300]}}, "Invalid color for 'plain' layer: invalid integer array"),
        ({"type": "torque", "options": {"cartocss": TORQUE}}, "Missing sql for layer 0 options"),
        ({"type": "torque", "options": {"sql": POINTS}}, "TorqueRenderer: cartocss can't be undefined"),
        (torque(css="#l { marker-width: 1; }"), "TorqueRenderer: Missing required property '-torque-frame-count'"),
        (torque(css=TORQUE.replace('"count(identifier)"', "count(id)")), "TorqueRenderer: Unexpected type for property '-torque-aggregation-function', expected string"),
        (torque(css=TORQUE.replace("count(identifier)", "count(*)), (select 1")), "an aggregation function must be one"),
        (torque(css=TORQUE.replace("count(identifier)", "pg_sleep(9)")), "the function pg_sleep is not allowed"),
        (torque(css=TORQUE.replace("count(identifier)", "count(nope)")), ""),
        (torque(css=TORQUE.replace("created_date_time", "nope")), "TorqueRenderer: Layer query did not return the requested time-attribute column 'nope'"),
        (torque(css=TORQUE.replace("created_date_time", "survey_id")), ""),
        (torque("select * from missing"), 'TorqueRenderer: relation "missing" does not exist'),
    ],
)  # fmt: skip
def test_wrong_layers_are_refused(maps: MapsServer, entry: dict[str, Any], message: str) -> None:
    status, text, context = maps.refused(entry)
    assert status in (400, 404)
    assert text.startswith(message)
    assert context["layer"]["index"] == 0 or "Unknown type" in text


def test_styles_for_some_layers_only_are_refused(maps: MapsServer) -> None:
    status, text, context = maps.refused(layer(POINTS), layer(POINTS, None))
    assert (status, context["type"]) == (400, "mapconfig")
    assert text.startswith("The `mapnik` or `cartodb` layers must be consistent")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([{"vector_extent": 888}, {}], "Multiple extent values in mapConfig (888,4096)"),
        ([{"vector_extent": 0}, {"vector_extent": 0}], "Invalid vector_extent. Must be between 1 and 2147483647"),
        ([{"vector_simplify_extent": 9999}] * 2, "Invalid vector_simplify_extent (9999). Must be between 1 and vector_extent [4096]"),
    ],
)  # fmt: skip
def test_vector_maps_with_wrong_extents_are_refused(maps: MapsServer, options: list[Any], message: str) -> None:
    status, text, _ = maps.refused(*(layer(POINTS, None, **given) for given in options))
    assert (status, text) == (400, message)
    # With a style the extents count for vector tiles only, and a map of images is made all the same.
    created = maps.create(*(layer(POINTS, **given) for given in options))
    assert maps.get(created, "0/0/0.png").status_code == 200
    assert maps.get(created, "0/0/0.mvt").json()["errors"] == [message]


def test_extents_that_agree_are_accepted(maps: MapsServer) -> None:
    for first, second in (
        ({"vector_extent": 4096}, {}),
        ({"vector_simplify_extent": 256}, {}),
        ({"vector_extent": 666, "vector_simplify_extent": 666}, {"vector_extent": 666}),
        ({"vector_extent": 4096 * 2**18}, {"vector_extent": 4096 * 2**18}),
    ):
        created = maps.create(layer(POINTS, None, **first), layer(POINTS, None, **second))
        assert maps.get(created, "0/0/0.mvt").status_code == 200


# --- SQL of every shape that is allowed


@pytest.mark.parametrize(
    "sql",
    [
        "select * from datapoint;",
        "select * from datapoint ; \n ",
        "select * from datapoint -- and a comment",
        "select * from datapoint /* ; */ where ';' <> 'x;y'",
        "with x as (select * from datapoint), y as (select * from x) select * from y",
        "select * from datapoint where the_geom_webmercator && !bbox!",
        "select * from datapoint where !scale_denominator! > 0 and !pixel_width! = !pixel_height!",
        "select *, '!scale_denominator!'::text as label from datapoint",
        "select * from datapoint where !unknown! is null",
        "select distinct on (survey_id) * from datapoint order by survey_id, identifier",
        "select 1 as id, st_buffer(the_geom_webmercator, 1000000) as the_geom_webmercator from datapoint",
        "(select * from datapoint) union all (select * from datapoint)",
        "select d.*, l.name from datapoint d join lands l on st_intersects(d.the_geom_webmercator, l.the_geom_webmercator)",
        "select *, 5 % 3 as remainder, 'a%sb' as \"odd % name\", '{}' as braces from datapoint",
        'select the_geom_webmercator, properties->>\'name\' as "the name; it\'s ""odd""" from datapoint',
        "table datapoint",
    ],
)
def test_every_form_of_query_works_in_every_format(maps: MapsServer, sql: str) -> None:
    created = maps.create(layer(sql))
    for path in ("0/0/0.png", "0/0/0.mvt", "tilejson.json?content=vector"):
        assert maps.client.get(f"{maps.url}/layergroup/{created['layergroupid']}/{path}").status_code == 200, path


def test_tokens_have_the_same_values_in_images_and_vector_tiles(maps: MapsServer) -> None:
    """A marker is wherever the query says that the middle of the box is, and as many columns tell the scale."""
    sql = (
        "select round((!scale_denominator!)::numeric)::text as scale, round((!pixel_width!)::numeric, 6)::text as pixel,"
        " st_centroid(st_envelope(!bbox!::geometry)) as the_geom_webmercator"
    )
    created = maps.create(layer(sql, interactivity="scale,pixel"), buffersize={"png": 0, "grid.json": 0, "mvt": 0})
    import mapbox_vector_tile

    tile = mapbox_vector_tile.decode(maps.get(created, "0/0/0.mvt").content)
    (feature,) = tile["layer0"]["features"]
    assert feature["properties"] == {"scale": "559082264", "pixel": "156543.033928"}
    assert feature["geometry"]["coordinates"] == [2048, 2048]
    grid = maps.get(created, "0/0/0.grid.json").json()
    assert list(grid["data"].values()) == [{"scale": "559082264", "pixel": "156543.033928"}]


def test_a_slow_query_is_given_up_and_the_server_goes_on(maps: MapsServer) -> None:
    slow = "select d.* from datapoint d, generate_series(1, 4000) a, generate_series(1, 100000) b where a + b < 0"
    created = maps.create(layer(slow))
    for path in ("0/0/0.png", "0/0/0.mvt"):
        answer = maps.get(created, path)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    assert maps.create(layer(POINTS))["layergroupid"]
