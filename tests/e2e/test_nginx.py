"""The front door: what nginx lets in, what it adds, and what it writes down. Source: Maps API contract, section 7.2."""

import base64
import json
import lzma
import random
import string
import time

import pytest

from flowstack.deployment import Deployment
from records import map_of, record


@pytest.fixture(scope="module")
def map_id(deployment: Deployment) -> str:
    topic = deployment.new_topic()
    # Enough points for a grid that is worth compressing.
    deployment.push_and_wait(topic, [record(f"p{number}", number * 8 - 170, number * 3 - 60) for number in range(40)])
    return str(deployment.create_map(topic, map_of())["layergroupid"])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "TRACE"])
def test_tiles_are_for_reading_only(deployment: Deployment, map_id: str, method: str) -> None:
    answer = deployment.client.request(method, f"{deployment.url}/layergroup/{map_id}/0/0/0.png")
    assert answer.status_code == 405
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
def test_maps_are_created_by_post_and_get_only(deployment: Deployment, method: str) -> None:
    answer = deployment.client.request(method, f"{deployment.url}/create-map")
    assert answer.status_code == 405
    if method != "HEAD":
        assert answer.json()["errors"] == ["method not allowed"]


def test_a_head_of_a_tile_has_headers_and_no_body(deployment: Deployment, map_id: str) -> None:
    path = f"{deployment.url}/layergroup/{map_id}/0/0/0.png"
    whole, head = deployment.client.get(path), deployment.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == whole.headers["etag"]
    assert head.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("path", "method"), [("/create-map", "POST"), ("/layergroup/0123456789abcdef0123456789abcdef/0/0/0.png", "GET")]
)
def test_a_browser_may_ask_from_another_site(deployment: Deployment, path: str, method: str) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": method}
    answer = deployment.client.options(f"{deployment.url}{path}", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method in answer.headers["access-control-allow-methods"]
    # With any origin allowed, credentials must not be.
    assert "access-control-allow-credentials" not in answer.headers


def test_errors_can_be_read_from_another_site(deployment: Deployment) -> None:
    refused = deployment.client.post(f"{deployment.url}/create-map", json={})
    unknown = deployment.get(f"/layergroup/{'0' * 32}/0/0/0.png")
    missing = deployment.get("/layergroup")
    for answer, status in ((refused, 401), (unknown, 400), (missing, 404)):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json()["errors"]


def test_plain_requests_behind_a_load_balancer_are_sent_to_https(deployment: Deployment) -> None:
    for path in ("/healthz", "/viewer/?a=b", "/layergroup/x/0/0/0.png"):
        answer = deployment.client.get(
            f"{deployment.url}{path}", headers={"X-Forwarded-Proto": "http", "Host": "maps.example"}
        )
        assert answer.status_code == 301
        assert answer.headers["location"] == f"https://maps.example{path}"
    assert deployment.get("/healthz", **{"X-Forwarded-Proto": "https"}).status_code == 200


def test_a_long_map_in_a_compressed_address_passes(deployment: Deployment) -> None:
    topic = deployment.new_topic()
    deployment.push_and_wait(topic, [record("p", 1, 1)])
    noise = "".join(random.Random(7).choices(string.ascii_letters, k=24_000))
    document = map_of()
    document["layers"][0]["options"]["sql"] += f" -- {noise}"
    stream = lzma.compress(json.dumps({"config": json.dumps(document)}).encode(), format=lzma.FORMAT_ALONE)
    parameter = base64.b64encode(bytes(byte ^ 0x80 for byte in stream)).decode()
    answer = deployment.client.get(
        f"{deployment.url}/create-map",
        params={"topic": topic, "lzma": parameter},
        headers={"Authorization": f"Bearer {deployment.token}"},
    )
    assert 24_000 < len(answer.url.query) < 32_000
    assert answer.json()["layergroupid"] == deployment.create_map(topic, document)["layergroupid"]
    assert parameter[:100] not in deployment.front.access_log.read_text()


@pytest.mark.parametrize("path", ["/metrics", "/", "/create-map/x", "/docs", "/../metrics", "/layergroup", "/auth"])
def test_nothing_else_is_reachable(deployment: Deployment, path: str) -> None:
    assert deployment.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/viewer/", "/openapi.json"])
def test_what_is_meant_to_be_reachable_is(deployment: Deployment, path: str) -> None:
    assert deployment.get(path).status_code == 200


def test_a_body_beyond_the_limit_is_refused_as_json(deployment: Deployment) -> None:
    answer = deployment.client.post(
        f"{deployment.url}/create-map",
        content=b"x" * (1024 * 1024 + 1),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {deployment.token}"},
    )
    assert answer.status_code == 413
    assert "1 MiB" in answer.json()["errors"][0]
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_body_of_chunks_beyond_the_limit_is_refused(deployment: Deployment) -> None:
    answer = deployment.client.post(
        f"{deployment.url}/create-map",
        content=(b" " * 65536 for _ in range(20)),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {deployment.token}"},
    )
    assert answer.status_code == 413


def test_grids_and_geojson_are_compressed_and_images_are_not(deployment: Deployment, map_id: str) -> None:
    for name in ("grid.json", "geojson"):
        text = deployment.get(f"/layergroup/{map_id}/0/0/0/0.{name}", **{"Accept-Encoding": "gzip"})
        assert text.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in text.headers["vary"]
    png = deployment.get(f"/layergroup/{map_id}/0/0/0.png", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in png.headers


def test_a_tile_that_the_client_has_is_not_sent_again(deployment: Deployment, map_id: str) -> None:
    for path, encoding in (
        (f"/layergroup/{map_id}/0/0/0/0.grid.json", "gzip"),
        (f"/layergroup/{map_id}/0/0/0.png", ""),
    ):
        first = deployment.get(path, **{"Accept-Encoding": encoding})
        again = deployment.get(path, **{"Accept-Encoding": encoding, "If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"].startswith("public, max-age=")


def test_the_log_shows_eight_characters_of_a_token(deployment: Deployment, map_id: str) -> None:
    token, _, buster = map_id.partition(":")
    deployment.get(f"/layergroup/{map_id}/1/0/0.png")
    deployment.get("/layergroup/abc/1/0/0.png")
    deadline = time.monotonic() + 10
    lines: list[dict[str, object]] = []
    while time.monotonic() < deadline and not any(line["uri"] == "" for line in lines):
        text = deployment.front.access_log.read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        time.sleep(0.05)
    assert f"/layergroup/{token[:8]}**********:{buster}/1/0/0.png" in {line["uri"] for line in lines}
    assert token not in text
    # A part that is too short to be a token could be one that was cut: none of it is written.
    assert any(line["uri"] == "" for line in lines)
    for server in deployment.serves:
        assert token not in server.log.read_text()


def test_health_checks_are_not_logged(deployment: Deployment) -> None:
    before = len(deployment.front.access_log.read_text())
    deployment.get("/healthz")
    deployment.get("/version")
    until, written = time.monotonic() + 5, ""
    while "/version" not in written and time.monotonic() < until:
        written = deployment.front.access_log.read_text()[before:]
    assert "/version" in written
    assert "/healthz" not in written


def test_credentials_of_the_replaced_system_do_not_pass(deployment: Deployment, map_id: str) -> None:
    answer = deployment.get(f"/layergroup/{map_id}/0/0/0.png", **{"X-DB-HOST": "127.0.0.9", "X-DB-NAME": "postgres"})
    assert answer.status_code == 200


def test_serve_that_is_away_is_said_to_be(deployment: Deployment, map_id: str) -> None:
    for server in deployment.serves:
        server.stop()
    try:
        answer = deployment.get(f"/layergroup/{map_id}/0/0/0.png")
    finally:
        for server in deployment.serves:
            server.start()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["errors"]
