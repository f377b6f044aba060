"""Named maps over HTTP: their templates, who may use them, and what becomes of their maps."""

from __future__ import annotations

import base64
import collections
import copy
import io
import json
import lzma
import random
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from PIL import Image

from flowmaps.settings import parse_settings
from flowmaps.tenants import provision_tenant
from flowstack.postgres import Postgres
from maps_fixtures import MapsServer, maps_server

TEMPLATE: dict[str, Any] = {
    "version": "0.0.1",
    "name": "points",
    "auth": {"method": "open"},
    "placeholders": {
        "survey": {"type": "sql_literal", "default": "s1"},
        "colour": {"type": "css_color", "default": "red"},
        "width": {"type": "number", "default": 20},
    },
    "layergroup": {
        "version": "1.8.0",
        "layers": [
            {
                "type": "mapnik",
                "id": "all",
                "options": {
                    "sql": "select * from datapoint where survey_id = '<%= survey %>'",
                    "cartocss": "#l { marker-width: <%= width %>; marker-fill: <%= colour %>; marker-line-width: 0; }",
                    "cartocss_version": "3.0.12",
                    "interactivity": "identifier",
                },
            }
        ],
    },
}
RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


class Client:
    """Asks a server about the named maps of one topic."""

    def __init__(self, server: MapsServer, topic: str) -> None:
        self.server = server
        self.topic = topic

    def ask(
        self, method: str, path: str = "", body: object = None, *, token: bool = True, **query: Any
    ) -> httpx.Response:
        headers = self.server.authorization if token else {}
        url = f"{self.server.url}/named/{self.topic}{path}"
        content: dict[str, Any] = {} if body is None else {"json": body}
        return self.server.client.request(method, url, params=query, headers=headers, **content)

    def add(self, **members: Any) -> str:
        raw = copy.deepcopy(TEMPLATE) | {"name": f"t{secrets.token_hex(4)}"} | members
        answer = self.ask("POST", body=raw)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"template_id": raw["name"]}
        return str(raw["name"])

    def instance(self, name: str, params: object = None, **query: Any) -> dict[str, Any]:
        answer = self.ask("POST", f"/{name}", params, token=False, **query)
        assert answer.status_code == 200, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def layergroup(self, created: dict[str, Any], path: str) -> httpx.Response:
        return self.server.client.get(f"{self.server.url}/layergroup/{created['layergroupid']}{path}")


LIMITS = {"FLOWMAPS_LIMIT_NAMED_MAPS_PER_TENANT": "30", "FLOWMAPS_LIMIT_TEMPLATE_BYTES": "20000"}


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres, **LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def redis_server(postgres: Postgres, redis_url: str) -> Iterator[MapsServer]:
    """A server whose created maps are in Redis."""
    with maps_server(postgres, **LIMITS, FLOWMAPS_MAP_STORE=redis_url) as running:
        yield running


def client_of(server: MapsServer) -> Client:
    """Return a client of a new tenant, with two points of two surveys."""
    topic = f"named{secrets.token_hex(4)}.datapoint"
    tenant = provision_tenant(parse_settings(server.environ), topic)
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        conn.execute(
            "insert into flowmaps.datapoint (identifier, survey_id, geom) values"
            " ('one', 's1', st_setsrid(st_makepoint(90, 45), 4326)),"
            " ('two', 's2', st_setsrid(st_makepoint(-90, 45), 4326))"
        )
    return Client(server, topic)


@pytest.fixture(scope="module")
def shared(server: MapsServer) -> Client:
    return client_of(server)


@pytest.fixture
def client(shared: Client) -> Client:
    """The tenant of most tests, without templates."""
    for name in shared.ask("GET").json()["template_ids"]:
        shared.ask("DELETE", f"/{name}")
    return shared


def image_of(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content)).convert("RGBA")


def identifiers(answer: httpx.Response) -> set[str]:
    return {values["identifier"] for values in answer.json()["data"].values()}


def test_a_template_is_created_read_listed_replaced_and_deleted(client: Client) -> None:
    assert client.ask("GET").json() == {"template_ids": []}
    name = client.add(name="points")
    assert client.ask("GET").json() == {"template_ids": ["points"]}
    assert client.ask("GET", "/points").json() == {"template": TEMPLATE}
    assert (
        client.ask("GET", "/@points").json() == client.ask("GET", "/somebody@points").json() == {"template": TEMPLATE}
    )
    other = copy.deepcopy(TEMPLATE)
    other["view"] = {"zoom": 3}
    assert client.ask("PUT", f"/{name}", other).json() == {"template_id": "points"}
    assert client.ask("GET", "/points").json()["template"]["view"] == {"zoom": 3}
    gone = client.ask("DELETE", f"/{name}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.ask("GET").json() == {"template_ids": []}
    for method, body in (("GET", None), ("DELETE", None), ("PUT", TEMPLATE)):
        missing = client.ask(method, "/points", body)
        assert missing.status_code == 404
        assert missing.json()["errors"] == [f"Cannot find template 'points' of topic '{client.topic}'"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "/points"), ("PUT", "/points"), ("DELETE", "/points")]
)
def test_templates_are_for_callers_who_may_create_maps(client: Client, method: str, path: str) -> None:
    body = TEMPLATE if method in ("POST", "PUT") else None
    answer = client.ask(method, path, body, token=False)
    assert answer.status_code == 401
    assert answer.json()["errors_with_context"][0]["type"] == "auth"
    assert client.ask("GET").json() == {"template_ids": []}


def test_anybody_may_make_the_map_of_an_open_template(client: Client) -> None:
    name = client.add()
    created = client.instance(name)
    assert set(created) >= {"layergroupid", "metadata", "last_updated"}
    assert created["metadata"]["layers"][0]["id"] == "all"
    assert identifiers(client.layergroup(created, "/0/0/0/0.grid.json")) == {"one"}
    image = image_of(client.layergroup(created, "/1/1/0.png"))
    assert image.getpixel((128, 183)) == RED
    other = client.instance(name, {"survey": "s2", "colour": "#0000ff"})
    assert identifiers(client.layergroup(other, "/0/0/0/0.grid.json")) == {"two"}
    assert image_of(client.layergroup(other, "/1/0/0.png")).getpixel((128, 183)) == BLUE
    assert client.instance(name, {})["layergroupid"] == created["layergroupid"]
    assert client.instance(name, {"unknown": 1})["layergroupid"] == created["layergroupid"]


def test_an_instance_is_another_map_than_the_same_config_created_directly(client: Client, server: MapsServer) -> None:
    name = client.add(placeholders={}, layergroup={"layers": [{"options": {"sql": "select * from datapoint"}}]})
    created = client.instance(name)
    body = {"topic": client.topic, "map": {"layers": [{"options": {"sql": "select * from datapoint"}}]}}
    direct = server.client.post(f"{server.url}/create-map", json=body, headers=server.authorization).json()
    assert direct["layergroupid"].split(":")[0] != created["layergroupid"].split(":")[0]
    forged = body["map"] | {"templates": {name: "x"}}  # type: ignore[operator]
    again = server.client.post(
        f"{server.url}/create-map", json=body | {"map": forged}, headers=server.authorization
    ).json()
    assert again["layergroupid"] == direct["layergroupid"]


def test_a_template_with_tokens_lets_in_who_shows_one(client: Client) -> None:
    name = client.add(auth={"method": "token", "valid_tokens": ["sesame", "öffne"]})
    for wrong in (None, "wrong", "", "sesam", "sesame "):
        query: dict[str, Any] = {} if wrong is None else {"auth_token": wrong}
        answer = client.ask("POST", f"/{name}", {}, token=False, **query)
        assert answer.status_code == 403
        assert answer.json()["errors"] == ["Unauthorized template instantiation"]
        tile = client.ask("GET", f"/{name}/0/0/0/0.png", token=False, **query)
        assert tile.status_code == 403
    # The role that manages templates is no token of them.
    assert client.ask("POST", f"/{name}", {}).status_code == 403
    allowed: list[dict[str, Any]] = [
        {"auth_token": "sesame"},
        {"auth_token": "öffne"},
        {"auth_token[]": ["wrong", "sesame"]},
    ]
    for query in allowed:
        created = client.instance(name, {}, **query)
        assert client.layergroup(created, "/0/0/0.png").status_code == 200
        assert client.ask("GET", f"/{name}/0/0/0/0.png", token=False, **query).status_code == 200
    many = client.ask("POST", f"/{name}", {}, token=False, auth_token=["x"] * 9)
    assert (many.status_code, many.json()["errors"]) == (400, ["at most 8 tokens can be given"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"colour": "red; } #x {"}, "Invalid css_color value for template parameter 'colour': red; } #x {"),
        ({"width": "1; marker-file: url(x)"}, "Invalid number value for template parameter 'width'"),
        ({"survey": None}, "Invalid sql_literal value for template parameter 'survey'"),
        ({"styles": {}}, "Styles cannot be given to a named map"),
        ([], "The parameters of a template must be an object"),
        ("red", "The parameters of a template must be an object"),
    ],
)
def test_hostile_parameters_are_refused(client: Client, params: Any, message: str) -> None:
    answer = client.ask("POST", f"/{client.add()}", params, token=False)
    assert answer.status_code == 400
    assert message in answer.json()["errors"][0]


@pytest.mark.parametrize(
    "value", ["s1' or 'a'='a", "s1'--", "'; drop table flowmaps.datapoint; --", "s1\\", "\\' or true --", "s1'/*", "''"]
)
def test_a_hostile_literal_selects_nothing(client: Client, value: str) -> None:
    created = client.instance(client.add(), {"survey": value})
    assert client.layergroup(created, "/0/0/0/0.grid.json").json()["data"] == {}


@pytest.mark.parametrize("store", ["server", "redis_server"])
def test_a_changed_or_deleted_template_ends_its_maps(store: str, request: pytest.FixtureRequest) -> None:
    client = client_of(request.getfixturevalue(store))
    name = client.add()
    created = client.instance(name)
    assert client.layergroup(created, "/0/0/0.png").status_code == 200
    # The same template again ends nothing.
    same = copy.deepcopy(TEMPLATE) | {"name": name}
    assert client.ask("PUT", f"/{name}", same).status_code == 200
    assert not ends(client, created)
    same["layergroup"]["layers"][0]["options"]["sql"] += " and true"
    assert client.ask("PUT", f"/{name}", same).status_code == 200
    assert ends(client, created)
    renewed = client.instance(name)
    assert renewed["layergroupid"] != created["layergroupid"]
    assert client.layergroup(renewed, "/0/0/0.png").status_code == 200
    assert client.ask("DELETE", f"/{name}").status_code == 204
    assert ends(client, renewed)
    assert client.ask("POST", f"/{name}", {}, token=False).status_code == 404


def ends(client: Client, created: dict[str, Any]) -> bool:
    """Tell whether a map is unknown, as a whole and in its tiles."""
    answers = [client.layergroup(created, path) for path in ("", "/0/0/0.png")]
    assert len({answer.status_code for answer in answers}) == 1
    if answers[0].status_code == 200:
        return False
    assert all((answer.status_code, "Invalid or nonexistent map" in answer.text) == (400, True) for answer in answers)
    return True


def test_another_process_notices_within_seconds_that_a_template_is_gone(client: Client, server: MapsServer) -> None:
    name = client.add()
    created = client.instance(name)
    with psycopg.connect(server.master_url, autocommit=True) as conn:
        conn.execute("delete from flowmaps.named_map where topic = %s and name = %s", [client.topic, name])
    deadline = time.monotonic() + 15
    while client.layergroup(created, "/0/0/0.png").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.25)
    assert ends(client, created)


def test_jsonp_makes_the_map_for_pages_that_load_scripts(client: Client) -> None:
    name = client.add()
    config = json.dumps({"survey": "s2"})
    answer = client.ask("GET", f"/{name}/jsonp", token=False, callback="shown", config=config)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    prefix = "/**/ typeof shown === 'function' && shown("
    assert answer.text.startswith(prefix)
    created = json.loads(answer.text[len(prefix) : -2])
    assert created["layergroupid"] == client.instance(name, {"survey": "s2"})["layergroupid"]
    stream = lzma.compress(json.dumps({"config": config}).encode(), format=lzma.FORMAT_ALONE)
    parameter = base64.b64encode(bytes(byte ^ 0x80 for byte in stream)).decode()
    same = client.ask("GET", f"/{name}/jsonp", token=False, callback="shown", lzma=parameter)
    assert same.text == answer.text
    without = client.ask("GET", f"/{name}/jsonp", token=False)
    assert (without.status_code, without.json()["errors"]) == (
        400, ["callback parameter should be present and be a function name"]
    )  # fmt: skip
    for bad in ("{", "[]", "7", '{"a": NaN}'):
        refused = client.ask("GET", f"/{name}/jsonp", token=False, callback="shown", config=bad)
        assert "Invalid config parameter" in refused.text
        assert refused.status_code == 200  # a script with another status would not run


def test_tiles_have_addresses_without_a_map_being_asked_for(client: Client) -> None:
    name = client.add()
    config = json.dumps({"colour": "#0000ff"})
    image = image_of(client.ask("GET", f"/{name}/all/1/1/0.png", token=False, config=config))
    assert image.getpixel((128, 183)) == BLUE
    answer = client.ask("GET", f"/{name}/0/1/1/0.png", token=False)
    assert image_of(answer).getpixel((128, 183)) == RED
    assert answer.headers["cache-control"] == "public, max-age=60"
    grid = client.ask("GET", f"/{name}/0/0/0/0.grid.json", token=False)
    assert identifiers(grid) == {"one"}
    vector = client.ask("GET", f"/{name}/all/0/0/0.mvt", token=False)
    assert (vector.status_code, vector.headers["content-type"]) == (200, "application/x-protobuf")
    assert client.ask("GET", f"/{name}/7/0/0/0.png", token=False).status_code == 400
    assert client.ask("GET", f"/{name}/0/0/0/0.exe", token=False).status_code == 400
    assert client.ask("GET", "/nothing/0/0/0/0.png", token=False).status_code == 404


def test_a_static_map_shows_the_view_of_the_template(client: Client) -> None:
    view = {"zoom": 2, "center": {"lng": 90, "lat": 45}}
    name = client.add(view=view)
    image = image_of(client.ask("GET", f"/{name}/static/200/100.png", token=False))
    assert image.size == (200, 100)
    assert image.getpixel((100, 50)) == RED
    bounds = client.add(view={"bounds": {"west": -95, "south": 40, "east": -85, "north": 50}})
    config = json.dumps({"survey": "s2", "colour": "#0000ff"})
    shown = image_of(client.ask("GET", f"/{bounds}/static/100/100.png", token=False, config=config))
    assert shown.getpixel((50, 50)) == BLUE
    without = image_of(client.ask("GET", f"/{client.add()}/static/100/100.png", token=False))
    assert without.getpixel((50, 50)) == RED
    hidden = client.add(view=view | {"preview_layers": {"all": False}})
    refused = client.ask("GET", f"/{hidden}/static/100/100.png", token=False)
    assert (refused.status_code, refused.json()["errors"]) == (400, ["The view of the template shows no layer"])


def test_names_are_a_tenants_own(client: Client, server: MapsServer) -> None:
    other = Client(server, f"other{secrets.token_hex(4)}.datapoint")
    provision_tenant(parse_settings(server.environ), other.topic)
    client.add(name="points")
    assert other.ask("GET").json() == {"template_ids": []}
    assert other.ask("GET", "/points").status_code == 404
    other.add(name="points")
    assert other.ask("DELETE", "/points").status_code == 204
    assert client.ask("GET").json() == {"template_ids": ["points"]}


def test_an_unknown_topic_has_no_named_maps(client: Client, server: MapsServer) -> None:
    nobody = Client(server, "nobody.datapoint")
    for method, path, body in (("GET", "", None), ("POST", "", TEMPLATE), ("POST", "/points", {}), ("GET", "/x", None)):
        assert nobody.ask(method, path, body).status_code in (400, 404)


def test_a_name_is_taken_once_and_stays(client: Client) -> None:
    name = client.add()
    raw = copy.deepcopy(TEMPLATE) | {"name": name}
    again = client.ask("POST", body=raw)
    assert (again.status_code, again.json()["errors"]) == (
        400, [f"Template '{name}' of topic '{client.topic}' already exists"]
    )  # fmt: skip
    renamed = client.ask("PUT", f"/{name}", raw | {"name": "other"})
    assert renamed.status_code == 400
    assert renamed.json()["errors"] == [f"Cannot update name of a map template ('{name}' != 'other')"]


def test_a_tenant_has_so_many_named_maps_and_no_more_even_at_once(client: Client) -> None:
    statuses: list[int] = []

    def add(number: int) -> None:
        raw = copy.deepcopy(TEMPLATE) | {"name": f"n{number}"}
        statuses.append(client.ask("POST", body=raw).status_code)

    assert client.server.token
    threads = [threading.Thread(target=add, args=[number]) for number in range(36)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 30 + [409] * 6
    refused = client.ask("POST", body=copy.deepcopy(TEMPLATE) | {"name": "one-more"})
    assert refused.json()["errors"] == [f"Topic '{client.topic}' reached limit on number of templates (30/30)"]
    assert client.ask("PUT", "/" + client.ask("GET").json()["template_ids"][0], None).status_code == 400


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (lambda raw: raw.update(version="9"), 400, "Unsupported template version 9"),
        (lambda raw: raw.update(padding="x" * 20_000), 400, "the limit is 20000"),
        (lambda raw: raw["layergroup"]["layers"][0]["options"].update(sql="delete from datapoint"), 400, "only SELECT is allowed"),
        (lambda raw: raw["layergroup"]["layers"][0]["options"].update(sql="select '<%= nope %>'"), 400, "not among the template's"),
        (lambda raw: raw["layergroup"]["layers"][0]["options"].update(cartocss="#l { nonsense }"), 400, "style0:1:10"),
        (lambda raw: raw["layergroup"]["layers"][0]["options"].update(cartocss="#l { marker-width: ramp([a]); }"), 400, "invalid number of arguments"),
        (lambda raw: raw["layergroup"].update(version="9.9.9"), 400, "Unsupported layergroup configuration version 9.9.9"),
        (lambda raw: raw["placeholders"]["width"].update(default="wide"), 400, "Invalid number value"),
    ],
)  # fmt: skip
def test_a_template_that_is_no_map_is_refused_at_once(client: Client, change: Any, status: int, message: str) -> None:
    raw = copy.deepcopy(TEMPLATE)
    change(raw)
    answer = client.ask("POST", body=raw)
    assert answer.status_code == status
    assert message in answer.json()["errors"][0]
    assert client.ask("GET").json() == {"template_ids": []}


def test_a_body_that_is_no_json_is_refused(client: Client, server: MapsServer) -> None:
    url = f"{server.url}/named/{client.topic}"
    name = client.add()
    for path, kind in (("", server.authorization), (f"/{name}", {})):
        for content, headers in ((b"{", {"Content-Type": "application/json"}), (b"{}", {"Content-Type": "text/plain"})):
            answer = server.client.post(url + path, content=content, headers=kind | headers)
            assert answer.status_code == 400, answer.text
    large = server.client.post(
        f"{url}/{name}", content=b'{"a":"' + b"x" * 30_000 + b'"}', headers={"Content-Type": "application/json"}
    )
    assert large.status_code == 413


def test_ramps_and_aggregation_work_in_templates(client: Client) -> None:
    layergroup = copy.deepcopy(TEMPLATE["layergroup"])
    layergroup["layers"][0]["options"] |= {
        "sql": "select *, 1 as n from datapoint",
        "cartocss": "#l { marker-width: ramp([_cdb_feature_count], range(2, <%= width %>), equal(3)); }",
        "aggregation": {"threshold": 1},
    }
    created = client.instance(client.add(layergroup=layergroup), {"width": 30})
    meta = created["metadata"]["layers"][0]["meta"]
    assert meta["aggregation"] == {"png": True, "mvt": True}
    assert meta["cartocss_meta"]["rules"][0]["column"] == "_cdb_feature_count"
    off = client.instance(client.add(layergroup=copy.deepcopy(TEMPLATE["layergroup"])), aggregation="false")
    assert "aggregation" not in off["metadata"]["layers"][0]["meta"]


def test_instances_leave_room_for_maps_of_those_who_may_create_them(postgres: Postgres) -> None:
    with maps_server(postgres, FLOWMAPS_LIMIT_MAPS_PER_TENANT="10") as server:
        client = Client(server, server.topic)
        name = client.add()
        for number in range(5):
            client.instance(name, {"width": number + 1})
        refused = client.ask("POST", f"/{name}", {"width": 99}, token=False)
        assert (refused.status_code, refused.json()["errors_with_context"][0]["type"]) == (429, "limit")
        # One that is there is no new one, and others have the rest.
        client.instance(name, {"width": 3})
        server.create({"type": "mapnik", "options": {"sql": "select * from datapoint"}})


@pytest.mark.parametrize(
    "hostile", ["a%00b", "%00", "%ED%A0%80", "x" * 5000, "..%2F..", "a%2Fb", "%F0%9F%98%80", "'%3B--", "%20", "@"]
)
@pytest.mark.parametrize(
    "path",
    [
        "/named/{}",
        "/named/{}/points",
        "/named/{}/points/0/0/0/0.png",
        "/named/TOPIC/{}",
        "/named/TOPIC/{}/0/0/0/0.png",
        "/named/TOPIC/{}/static/9/9.png",
        "/named/TOPIC/{}/jsonp?callback=x",
    ],
)
def test_hostile_addresses_are_refused(client: Client, path: str, hostile: str) -> None:
    url = client.server.url + path.replace("TOPIC", client.topic).format(hostile)
    for method in ("GET", "POST", "PUT", "DELETE"):
        body = TEMPLATE if method in ("POST", "PUT") else None
        # A connection of its own: a body that was not read ends it.
        answer = httpx.request(method, url, headers=client.server.authorization, json=body, timeout=30)
        assert answer.status_code in (400, 404, 405) or (answer.status_code == 200 and "jsonp" in path), answer.text


def test_no_odd_template_is_a_defect(client: Client, nightly: bool) -> None:
    odd: list[Any] = [None, True, 0, -1, 1e308, "", "x", "<%= survey %>", [], {}, [{}], "\0", "\ud800", "é" * 200]
    choice = random.Random(None if nightly else 11)
    statuses: collections.Counter[int] = collections.Counter()
    for number in range(2000 if nightly else 80):
        raw: Any = copy.deepcopy(TEMPLATE) | {"name": f"odd{number}"}
        node = raw
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
            key = choice.choice(keys)
            if not isinstance(node[key], dict | list) or not node[key] or choice.random() < 0.3:
                node[key] = copy.deepcopy(choice.choice(odd))
                break
            node = node[key]
        # With escapes, as JSON can say what UTF-8 cannot.
        headers = client.server.authorization | {"Content-Type": "application/json"}
        url = f"{client.server.url}/named/{client.topic}"
        answer = httpx.post(url, content=json.dumps(raw), headers=headers, timeout=30)
        statuses[answer.status_code] += 1
        assert answer.status_code in (200, 400, 409), answer.text
        if answer.status_code == 200:
            name = answer.json()["template_id"]
            made = client.ask("POST", f"/{name}", {"width": 3}, token=False)
            assert made.status_code in (200, 400, 403, 404), made.text
            assert client.ask("DELETE", f"/{name}").status_code == 204
    assert statuses[200]
    assert statuses[400]
