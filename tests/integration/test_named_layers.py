"""Layers of a MapConfig that are named maps: what they become, whom they let in, and when their maps end."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from flowmaps.settings import parse_settings
from flowmaps.tenants import provision_tenant
from flowstack.postgres import Postgres
from maps_fixtures import MapsServer, layer, maps_server

STYLE = "#l { marker-width: <%= width %>; marker-fill: <%= colour %>; marker-line-width: 0; }"
PLACEHOLDERS = {
    "survey": {"type": "sql_literal", "default": "s1"},
    "colour": {"type": "css_color", "default": "red"},
    "width": {"type": "number", "default": 20},
}
SURVEY = "select * from datapoint where survey_id = '<%= survey %>'"


@pytest.fixture(scope="module")
def server(postgres: Postgres) -> Iterator[MapsServer]:
    with maps_server(postgres, FLOWMAPS_LIMIT_LAYERS="6") as running:
        yield running


@pytest.fixture(scope="module")
def redis_server(postgres: Postgres, redis_url: str) -> Iterator[MapsServer]:
    with maps_server(postgres, FLOWMAPS_MAP_STORE=redis_url) as running:
        yield running


def templates(server: MapsServer, method: str, path: str = "", body: object = None) -> httpx.Response:
    url = f"{server.url}/named/{server.topic}{path}"
    content: dict[str, Any] = {} if body is None else {"json": body}
    return server.client.request(method, url, headers=server.authorization, **content)


def template(name: str, *layers: dict[str, Any], **members: Any) -> dict[str, Any]:
    inner = list(layers) or [layer(SURVEY, STYLE, interactivity="identifier") | {"id": "points"}]
    layergroup = {"version": "1.8.0", "layers": inner}
    raw = {"version": "0.0.1", "name": name, "placeholders": PLACEHOLDERS, "layergroup": layergroup}
    return raw | members


def add(server: MapsServer, *layers: dict[str, Any], **members: Any) -> str:
    name = f"t{secrets.token_hex(4)}"
    answer = templates(server, "POST", body=template(name, *layers, **members))
    assert answer.status_code == 200, answer.text
    return name


def named(name: object, **options: Any) -> dict[str, Any]:
    return {"type": "named", "options": {"name": name, **options}}


def pixel(answer: httpx.Response, x: int, y: int) -> tuple[int, ...]:
    assert answer.status_code == 200, answer.text
    found = Image.open(io.BytesIO(answer.content)).convert("RGBA").getpixel((x, y))
    assert isinstance(found, tuple)
    return tuple(int(channel) for channel in found)


B, C = (192, 92), (64, 92)
"""Where the points b, of survey s1, and c, of s2, are in the world's tile."""
RED, BLUE, CLEAR = (255, 0, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0)


def test_a_named_layer_becomes_the_layers_of_its_map_at_its_place(server: MapsServer) -> None:
    two = add(server, layer(SURVEY, STYLE) | {"id": "first"}, {"type": "plain", "options": {"color": "#00ff00"}})
    created = server.create(
        layer("select * from datapoint", "#l { marker-width: 4; marker-fill: black; }"),
        named(two, config={"survey": "s2", "colour": "blue", "ignored": 1}),
        layer("select * from datapoint limit 1", "#l { marker-width: 4; marker-fill: black; }") | {"id": "last"},
    )
    told = created["metadata"]["layers"]
    assert [(entry["type"], entry["id"]) for entry in told] == [
        ("mapnik", "layer0"),
        ("mapnik", "first"),
        ("plain", "plain-layer0"),
        ("mapnik", "last"),
    ]
    assert "marker-fill: blue" in told[1]["meta"]["cartocss"]
    assert pixel(server.get(created, "1/0/0/0.png"), *C) == BLUE
    assert pixel(server.get(created, "1/0/0/0.png"), *B) == CLEAR
    assert pixel(server.get(created, "2/0/0/0.png"), 5, 5) == (0, 255, 0, 255)
    # There are no named layers to select.
    assert server.get(created, "named/0/0/0.png").json()["errors"] == ["Invalid layer filtering"]


def test_one_template_may_stand_for_many_layers(server: MapsServer) -> None:
    name = add(server)
    created = server.create(named(name), named(name, config={"survey": "s2", "colour": "blue"}))
    tile = server.get(created, "0/0/0.png")
    assert (pixel(tile, *B), pixel(tile, *C)) == (RED, BLUE)
    grid = server.get(created, "1/0/0/0.grid.json").json()["data"]
    assert {values["identifier"] for values in grid.values()} == {"c"}


def test_the_map_is_another_one_than_with_the_layers_written_out(server: MapsServer) -> None:
    name = add(server, layer("select * from datapoint"))
    expanded = server.create(named(name))
    assert server.create(named(name))["layergroupid"] == expanded["layergroupid"]
    assert server.create(layer("select * from datapoint"))["layergroupid"] != expanded["layergroupid"]


def test_an_address_can_hold_named_layers(server: MapsServer) -> None:
    config = json.dumps({"version": "1.8.0", "layers": [named(add(server))]})
    query = {"topic": server.topic, "config": config}
    answer = server.client.get(f"{server.url}/create-map", params=query, headers=server.authorization)
    assert answer.status_code == 200, answer.text
    assert answer.json()["metadata"]["layers"][0]["id"] == "points"


def test_vector_layers_come_from_named_maps_too(server: MapsServer) -> None:
    name = add(server, layer(SURVEY, None))
    created = server.create(layer("select * from datapoint", None), named(name))
    assert created["metadata"]["url"].keys() == {"vector"}
    assert server.get(created, "0/0/0.mvt").status_code == 200
    status, message, _ = server.refused(layer("select * from datapoint"), named(name))
    assert (status, "must be consistent" in message) == (400, True)


def test_a_template_with_tokens_wants_one_from_those_with_the_role_too(server: MapsServer) -> None:
    auth = {"method": "token", "valid_tokens": ["right", "also"]}
    name = add(server, auth=auth)
    allowed: list[object] = [["right"], ["wrong", "also"], "right"]
    refused: list[object] = [[], ["wrong"], "", None, ["r", "ight"]]
    for tokens in allowed:
        server.create(named(name, auth_tokens=tokens))
    for tokens in refused:
        status, message, context = server.refused(layer("select 1"), named(name, auth_tokens=tokens))
        assert (status, message) == (403, f"Unauthorized '{name}' template instantiation")
        assert (context["type"], context["member"]) == ("auth", "layers[1].options.auth_tokens")


@pytest.mark.parametrize(
    ("options", "message", "option"),
    [
        ({}, "Missing Named Map `name` in layer options", "name"),
        ({"name": ""}, "Missing Named Map `name` in layer options", "name"),
        ({"name": 5}, "The name of a named map must be text", "name"),
        ({"name": ["NAME"]}, "The name of a named map must be text", "name"),
        ({"name": "nonexistent"}, "Template 'nonexistent' of topic 'TOPIC' not found", "name"),
        ({"name": "a\0b"}, "Template 'a\0b' of topic 'TOPIC' not found", "name"),
        ({"name": "'; drop"}, "Template ''; drop' of topic 'TOPIC' not found", "name"),
        ({"name": "NAME", "config": [1]}, "The config of a named layer must be an object", "config"),
        ({"name": "NAME", "config": "x"}, "The config of a named layer must be an object", "config"),
        (
            {"name": "NAME", "config": {"width": "wide"}},
            "Invalid number value for template parameter 'width': wide",
            "config.width",
        ),
        (
            {"name": "NAME", "config": {"colour": "red;}"}},
            "Invalid css_color value for template parameter 'colour': red;}",
            "config.colour",
        ),
        ({"name": "NAME", "config": {"styles": {}}}, "Styles cannot be given to a named map", "config.styles"),
        ({"name": "NAME", "auth_tokens": [1]}, "The auth_tokens of a named layer must be a list of texts", "auth_tokens"),
        ({"name": "NAME", "auth_tokens": {}}, "The auth_tokens of a named layer must be a list of texts", "auth_tokens"),
        ({"name": "NAME", "auth_tokens": ["x"] * 9}, "at most 8 tokens can be given", "auth_tokens"),
    ],
)  # fmt: skip
def test_a_wrong_named_layer_is_refused_with_its_place(
    server: MapsServer, shared: str, options: dict[str, Any], message: str, option: str
) -> None:
    raw = json.loads(json.dumps(options).replace("NAME", shared))
    if raw.get("auth_tokens") == {}:
        raw["auth_tokens"] = {"a": 1}
    status, found, context = server.refused(layer("select 1"), named(None) | {"options": raw})
    assert (status, found) == (400, message.replace("TOPIC", server.topic))
    assert context["member"] == f"layers[1].options.{option}"
    assert (context["layer"]["index"], context["layer"]["type"]) == (1, "named")


@pytest.fixture(scope="module")
def shared(server: MapsServer) -> str:
    return add(server)


def test_options_that_are_none_are_refused(server: MapsServer) -> None:
    status, message, context = server.refused({"type": "named", "options": []})
    assert (status, message) == (400, "Missing options from layer 0 of layergroup config")
    assert context["member"] == "layers[0].options"


def test_named_layers_are_not_nested(server: MapsServer, shared: str) -> None:
    answer = templates(server, "POST", body=template("nested", layer("select 1"), named(shared)))
    assert (answer.status_code, answer.json()["errors"]) == (400, ["Nested named layers are not allowed"])
    assert answer.json()["errors_with_context"][0]["member"] == "layergroup.layers[1].type"


def test_a_template_of_another_tenant_is_not_there(server: MapsServer, shared: str) -> None:
    topic = f"other{secrets.token_hex(4)}"
    provision_tenant(parse_settings(server.environ), topic)
    body = {"topic": topic, "map": {"layers": [named(shared)]}}
    answer = server.client.post(f"{server.url}/create-map", json=body, headers=server.authorization)
    assert (answer.status_code, answer.json()["errors"]) == (
        400,
        [f"Template '{shared}' of topic '{topic}' not found"],
    )


def test_errors_behind_named_layers_name_the_layers_that_were_sent(server: MapsServer) -> None:
    two = add(server, layer(SURVEY), layer(SURVEY))
    status, message, context = server.refused(named(two), layer("select nope from datapoint"))
    assert (status, 'column "nope" does not exist' in message) == (400, True)
    assert (context["member"], context["layer"]["index"]) == ("layers[1].options.sql", 1)
    status, message, context = server.refused(named(two), layer("select * from datapoint", cartocss_version=5))
    assert message == "The option cartocss_version of layer 1 must be text"
    assert context["member"] == "layers[1].options.cartocss_version"
    # What is wrong in a template is told by the name that the caller wrote.
    late = add(server, layer(SURVEY), layer("select * from gone") | {"id": "late"})
    status, message, context = server.refused(layer("select * from datapoint"), named(late))
    assert (status, 'relation "gone" does not exist' in message) == (404, True)
    assert context["member"] == "layers[1].options.name"
    assert context["layer"] == {"id": "late", "index": 1, "type": "mapnik"}


def test_layers_of_named_maps_count(server: MapsServer, shared: str) -> None:
    server.create(*[named(shared)] * 6)
    status, message, _ = server.refused(*[named(shared)] * 7)
    assert (status, message) == (400, "The map has 7 layers, the limit is 6")
    three = add(server, *[layer("select * from datapoint")] * 3)
    server.create(named(three), named(three))
    status, message, context = server.refused(named(three), named(shared), named(three))
    assert (status, "more than 6 layers with those of its named maps" in message) == (400, True)
    assert context["member"] == "layers"


def test_a_client_cannot_say_what_a_map_depends_on(server: MapsServer) -> None:
    created = server.create(layer("select * from datapoint"))
    other = server.create(layer("select * from datapoint"), templates={"nope": "0"}, template={"name": "nope"})
    assert server.get(other, "0/0/0.png").status_code == 200
    plain = server.create(layer("select * from datapoint"), templates={"nope": "0"})
    assert plain["layergroupid"] == created["layergroupid"]


@pytest.mark.parametrize("store", ["server", "redis_server"])
@pytest.mark.parametrize("changed", [0, 1])
@pytest.mark.parametrize("how", ["PUT", "DELETE"])
def test_a_map_ends_with_any_of_its_templates(
    store: str, changed: int, how: str, request: pytest.FixtureRequest
) -> None:
    server: MapsServer = request.getfixturevalue(store)
    names = [add(server), add(server)]
    created = server.create(named(names[0]), layer("select * from datapoint"), named(names[1]))
    kept = server.create(named(names[1 - changed]))
    assert server.get(created, "0/0/0.png").status_code == 200
    # The same template again ends nothing.
    assert templates(server, "PUT", f"/{names[changed]}", template(names[changed])).status_code == 200
    assert server.get(created, "0/0/0.png").status_code == 200
    other = template(names[changed], layer(SURVEY, STYLE, interactivity="survey_id"))
    body = other if how == "PUT" else None
    assert templates(server, how, f"/{names[changed]}", body).status_code in (200, 204)
    for path in ("0/0/0.png", "tilejson.json"):
        gone = server.get(created, path)
        assert (gone.status_code, "Invalid or nonexistent map" in gone.text) == (400, True)
    assert server.get(kept, "0/0/0.png").status_code == 200
