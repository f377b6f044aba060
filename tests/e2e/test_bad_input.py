"""What strangers and mistakes send: each gets a clear answer that names what is wrong, and the service goes on."""

import json
from typing import Any

import pytest

from flowstack.deployment import Deployment
from flowstack.keycloak import OTHER_AUDIENCE, WITHOUT_ROLE
from records import map_of, record


@pytest.fixture(scope="module")
def topic(deployment: Deployment) -> str:
    topic = deployment.new_topic()
    deployment.push_and_wait(topic, [record("one"), record("two", 5.0, 52.0)])
    return topic


@pytest.fixture(scope="module")
def map_id(deployment: Deployment, topic: str) -> str:
    return str(deployment.create_map(topic, map_of())["layergroupid"])


def layers(*options: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {"version": "1.5.0", "layers": [{"type": "mapnik", "options": one} for one in options]} | top


BAD_MAPS: list[tuple[str, object, str, str]] = [
    ("no map", None, "map", "map is missing"),
    ("a text", "select 1", "", "Missing layers array"),
    ("a list", [], "", "Missing layers array"),
    ("no layers", {"version": "1.5.0"}, "layers", "Missing layers array from layergroup config"),
    ("layers that are no list", {"layers": "x"}, "layers", "Missing layers array"),
    ("a layer that is null", {"layers": [None]}, "layers[0].options", "Missing options from layer 0"),
    ("a layer without options", {"layers": [{"type": "mapnik"}]}, "layers[0].options", "Missing options from layer 0"),
    ("a version to come", {"version": "9.0.0", "layers": []}, "version", "Unsupported layergroup configuration version"),
    ("a version that is none", {"version": "abc", "layers": []}, "version", "Unsupported layergroup configuration"),
    ("no sql", map_of(sql=None), "layers[0].options.sql", "Missing sql for layer 0 options"),
    ("no style", layers({"sql": "select * from datapoint", "cartocss_version": "2.0.0"}), "layers[0].options.cartocss",
     "Missing cartocss for layer 0 options"),
    ("an empty style", map_of(cartocss="  "), "layers[0].options.cartocss", "CartoCSS is empty"),
    ("sql that does not parse", map_of(sql="selec * from datapoint"), "layers[0].options.sql", "syntax error"),
    ("two statements", map_of(sql="select * from datapoint; drop table datapoint"), "layers[0].options.sql", "statements"),
    ("sql that writes", map_of(sql="delete from datapoint"), "layers[0].options.sql", "only SELECT is allowed"),
    ("sql that waits", map_of(sql="select *, pg_sleep(9) from datapoint"), "layers[0].options.sql", "pg_sleep"),
    ("sql that reads files", map_of(sql="select pg_read_file('/etc/passwd')"), "layers[0].options.sql", "pg_read_file"),
    ("the catalogue", map_of(sql="select * from pg_authid"), "layers[0].options.sql", "pg_authid"),
    ("another schema", map_of(sql="select * from flowmaps.datapoint"), "layers[0].options.sql", "flowmaps.datapoint"),
    ("an unknown table", map_of(sql="select * from nowhere"), "layers[0].options.sql", '"nowhere" does not exist'),
    ("an unknown column", map_of(sql="select nope from datapoint"), "layers[0].options.sql", '"nope" does not exist'),
    ("an unknown geometry", map_of(geom_column="shape"), "layers[0].options.geom_column", '"shape" does not exist'),
    ("an unknown attribute", map_of(interactivity="nope"), "layers[0].options.interactivity", '"nope" does not exist'),
    ("a filter of an unknown column", map_of(cartocss="#s[nope=1] { marker-width: 3; }"), "layers[0].options.cartocss",
     '"nope" does not exist'),
    ("a typo in the style", map_of(cartocss="#s { marker-fil: red; }"), "layers[0].options.cartocss", "marker-fil"),
    ("a style that does not parse", map_of(cartocss="#s { marker-width: 3"), "layers[0].options.cartocss", "style0:1"),
    ("a column with quotes", map_of(interactivity='a"b\'; drop table x'), "layers[0].options.interactivity", "does not exist"),
    ("a NUL in the sql", map_of(sql="select '\0' from datapoint"), "layers[0].options.sql", "NUL"),
    ("too many layers", {"layers": [map_of()["layers"][0]] * 40}, "layers", "layers"),
    ("a very long style", map_of(cartocss="/*" + "x" * 300_000 + "*/"), "layers[0].options.cartocss", "bytes"),
    ("odd interactivity", map_of(interactivity=7), "layers[0].options.interactivity", "Invalid interactivity value type"),
    ("odd buffers", map_of() | {"buffersize": {"png": "wide"}}, "buffersize.png", 'Buffer size of format "png" must be a number'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "member", "message"), [case[1:] for case in BAD_MAPS], ids=[c[0] for c in BAD_MAPS]
)
def test_a_bad_map_is_refused_and_the_member_is_named(
    deployment: Deployment, topic: str, document: object, member: str, message: str
) -> None:
    answer = deployment.post_map(topic, document)
    # What does not exist is 404, as clients of Windshaft know it; a column that does not is 400, as they know that.
    assert answer.status_code == (404 if 'relation "' in answer.json()["errors"][0] else 400), answer.text
    body = answer.json()
    assert message in body["errors"][0]
    context = body["errors_with_context"][0]
    assert context["message"] == body["errors"][0]
    if member:
        assert context["member"] == member
    if member.startswith("layers[0].options"):
        assert context["layer"]["index"] == 0


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"", "application/json", 400, "not JSON"),
        (b"{", "application/json", 400, "SyntaxError"),
        (b"[]", "application/json", 400, "object with topic and map"),
        (b"null", "application/json", 400, "object with topic and map"),
        (b"\xff\xfe", "application/json", 400, "not JSON"),
        (b"[" * 100_000, "application/json", 400, "nested too deeply"),
        (b'{"topic": NaN}', "application/json", 400, "NaN"),
        (b"{}", "text/plain", 400, "application/json"),
        (b"{}", "application/json; charset=utf-8", 400, "topic"),
        (b'{"topic": 7, "map": {}}', "application/json", 400, "topic"),
    ],
)
def test_a_malformed_body_is_refused(deployment: Deployment, body: bytes, kind: str, status: int, message: str) -> None:
    answer = deployment.client.post(
        f"{deployment.url}/create-map",
        content=body,
        headers={"Content-Type": kind, "Authorization": f"Bearer {deployment.token}"},
    )
    assert answer.status_code == status
    assert message in answer.json()["errors"][0]


@pytest.mark.parametrize(
    "name", ["no.such.datapoint", "", "a" * 300, "drop table; --", "Wasser.datapoint.ä\u2603", "a\0b"]
)
def test_an_unknown_tenant_is_refused(deployment: Deployment, name: str) -> None:
    answer = deployment.post_map(name, map_of())
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_tokens_are_told_apart(deployment: Deployment, topic: str) -> None:
    without, other = deployment.keycloak.token(WITHOUT_ROLE), deployment.keycloak.token(OTHER_AUDIENCE)
    header, claims, signature = deployment.token.split(".")
    for token, status in (
        ("", 401),
        ("x.y.z", 401),
        (f"{header}.{claims}.{signature[::-1]}", 401),
        (other, 401),
        (without, 403),
    ):
        answer = deployment.post_map(topic, map_of(), token=token)
        assert answer.status_code == status
        assert answer.json()["errors_with_context"][0]["type"] == "auth"
        assert ("www-authenticate" in answer.headers) == (status == 401)


def test_the_token_is_looked_at_before_the_body(deployment: Deployment) -> None:
    answer = deployment.client.post(
        f"{deployment.url}/create-map", content=b"{", headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("a/0/0.png", 400, "Invalid zoom value (a)"),
        ("0/a/0.png", 400, "Invalid coodinate 'x' value (a)"),
        ("0/0/a.png", 400, "Invalid coodinate 'y' value (a)"),
        ("-1/0/0.png", 400, "Invalid zoom value (-1)"),
        ("2/0/-1.png", 400, "Invalid coodinate 'y' value (-1)"),
        ("1/0/2.png", 400, "Coordinates out of range: 1/0/2"),
        ("31/0/0.png", 400, "Coordinates out of range"),
        ("9" * 40 + "/0/0.png", 400, "Coordinates out of range"),
        ("1/" + "9" * 40 + "/0.png", 400, "Coordinates out of range"),
        ("0/0/0.tiff", 400, "Unsupported format tiff"),
        ("0/0/0." + "x" * 200, 400, "Unsupported format"),
        ("0/0/0@9x.png", 404, "Tile with specified resolution not found"),
        ("9/0/0/0.png", 400, "Layer '9' not found in layergroup"),
        ("nope/0/0/0.png", 400, "Invalid layer filtering"),
        ("mapnik/0/0/0.grid.json", 200, ""),
        ("0/0/0/0.grid_invalid.json", 400, "Unsupported format"),
        ("0/1e1/0/0.png", 400, "Invalid zoom value"),
        ("0/%00/0/0.png", 400, "malformed"),
    ],
)
def test_a_bad_tile_address_is_refused(
    deployment: Deployment, map_id: str, address: str, status: int, message: str
) -> None:
    answer = deployment.get(f"/layergroup/{map_id}/{address}")
    assert answer.status_code == status, answer.text
    if message:
        assert message in answer.json()["errors"][0]
        assert "max-age" not in answer.headers.get("cache-control", "")


def test_columns_wrap_around_the_world(deployment: Deployment, map_id: str) -> None:
    answers = [deployment.get(f"/layergroup/{map_id}/2/{x}/1.png").content for x in (2, -2, 6)]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "change", ["{0}0", "{1}", "{2}", "00000000000000000000000000000000", "' or 1=1 --", "..%2f..%2fetc", "x" * 5000, ""]
)
def test_a_tampered_token_is_unknown(deployment: Deployment, map_id: str, change: str) -> None:
    token = map_id.split(":", maxsplit=1)[0]
    tampered = change.format(token, token.upper() if token.upper() != token else "A" * 32, token[:31])
    answer = deployment.get(f"/layergroup/{tampered}:1/0/0/0.png")
    assert answer.status_code == 400
    assert answer.json()["errors"]
    if "/" not in change.replace("%2f", "/"):
        assert "Invalid or nonexistent map configuration token" in answer.json()["errors"][0]


def test_a_callback_is_cleaned_and_errors_reach_it(deployment: Deployment, map_id: str) -> None:
    grid = deployment.get(f"/layergroup/{map_id}/0/0/0/0.grid.json?callback=a.b[0]")
    assert grid.headers["content-type"] == "text/javascript; charset=utf-8"
    assert grid.headers["x-content-type-options"] == "nosniff"
    head, tail = "/**/ typeof a.b[0] === 'function' && a.b[0](", ");"
    assert grid.text.startswith(head)
    assert json.loads(grid.text.removeprefix(head).removesuffix(tail))["keys"]
    hostile = deployment.get(f"/layergroup/{map_id}/0/0/0/0.grid.json?callback=alert(1)//<script>")
    assert hostile.text.startswith("/**/ typeof alert1script === 'function' && alert1script(")
    wrong = deployment.get(f"/layergroup/{map_id}/0/0/0/9.grid.json?callback=cb")
    assert wrong.status_code == 200
    assert "out of range" in wrong.text
    twice = deployment.get(f"/layergroup/{map_id}/0/0/0/0.grid.json?callback=a&callback=b")
    assert twice.json()["keys"]


BAD_RECORDS = [
    (record("no-survey", surveyGroupId=7) | {"latitude": float("nan")}, "invalid-coordinates"),
    (record("far", 181.0, 0.0), "invalid-coordinates"),
    (record("south", 0.0, -90.5), "invalid-coordinates"),
    (record("large", displayName="x" * 1_000_000), "too-large"),
    (record("nul", displayName="a\0b"), "nul-character"),
    (record("i" * 2000), "too-large"),
]


def test_bad_records_are_kept_and_the_good_ones_go_on(deployment: Deployment) -> None:
    topic = deployment.new_topic()
    deployment.push(topic, [record("before"), *(bad for bad, _ in BAD_RECORDS), record("nowhere", None, None)])
    deployment.push_and_wait(topic, [record("after"), record("last")])
    deployment.wait_for(topic, 3)
    grid = deployment.get(f"/layergroup/{deployment.create_map(topic, map_of())['layergroupid']}/0/0/0/0.grid.json")
    assert {values["identifier"] for values in grid.json()["data"].values()} <= {"before", "after", "last"}
    for reason in {reason for _, reason in BAD_RECORDS}:
        wanted = sum(reason == other for _, other in BAD_RECORDS)
        assert deployment.metric("flowmaps_rejected_records_total", topic=topic, reason=reason) == wanted
    # The one without location is counted as discarded, and is no fault.
    assert deployment.metric("datapoint_process", topic=topic, name="discarded") == len(BAD_RECORDS) + 1


def test_the_service_goes_on(deployment: Deployment, topic: str, map_id: str) -> None:
    assert deployment.get(f"/layergroup/{map_id}/0/0/0.png").status_code == 200
    assert deployment.post_map(topic, map_of()).status_code == 200
    assert deployment.metric("http_request_latency_seconds_count", status="500") == 0
