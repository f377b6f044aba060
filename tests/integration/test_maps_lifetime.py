"""How long a map lives, how it is taken back, and what the front door lets through of that."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flowmaps.errors import UnknownMap
from flowmaps.maps import create_map, open_services, revoke_map
from flowmaps.settings import Settings, parse_settings
from flowstack.nginx import Nginx
from maps_fixtures import POINTS, MapsServer, layer


def unique(maps: MapsServer, number: object) -> dict[str, Any]:
    return maps.create(layer(f"{POINTS} where identifier <> '{number}'"))


def unknown(maps: MapsServer, created: dict[str, Any]) -> bool:
    answer = maps.get(created, "0/0/0.png")
    token = created["layergroupid"].partition(":")[0]
    message = f"Invalid or nonexistent map configuration token '{token}'"
    return answer.status_code == 400 and answer.json()["errors"] == [message]


def test_a_revoked_map_is_as_unknown_as_one_that_never_was(maps: MapsServer) -> None:
    created = unique(maps, "revoked")
    url = f"{maps.url}/layergroup/{created['layergroupid']}"
    assert maps.client.delete(url).status_code == 401
    assert maps.client.delete(url, headers={"Authorization": "Bearer x"}).status_code == 401
    assert maps.get(created, "0/0/0.png").status_code == 200
    gone = maps.client.delete(url, headers=maps.authorization)
    assert (gone.status_code, gone.content) == (204, b"")
    assert unknown(maps, created)
    for path in ("", "/tilejson.json", "/0/attributes/1", "/0/0/0.mvt"):
        assert maps.client.get(f"{url}{path}").status_code == 400
    assert maps.client.delete(url, headers=maps.authorization).status_code == 400
    # Created anew it is the same map.
    assert unique(maps, "revoked")["layergroupid"].partition(":")[0] == created["layergroupid"].partition(":")[0]
    assert maps.get(created, "0/0/0.png").status_code == 200


async def test_another_process_notices_a_revocation_within_seconds(maps: MapsServer) -> None:
    created = unique(maps, "elsewhere")
    token = created["layergroupid"].partition(":")[0]
    async with open_services(parse_settings({**maps.environ, "FLOWMAPS_RENDER_WORKERS": "1"})) as services:
        now = services.clock()
        services.clock = lambda: now
        assert (await services.load(token)).stored.topic == maps.topic
        assert maps.client.delete(f"{maps.url}/layergroup/{token}", headers=maps.authorization).status_code == 204
        assert (await services.load(token)).stored.topic == maps.topic
        services.clock = lambda: now + 10.1
        with pytest.raises(UnknownMap):
            await services.load(token)
        with pytest.raises(UnknownMap):
            await revoke_map(services, token)
        document = {"version": "1.8.0", "layers": [layer(f"{POINTS} where identifier <> 'here'")]}
        here = await create_map(services, maps.topic, document)
        await revoke_map(services, here.layergroupid)
        with pytest.raises(UnknownMap):
            await services.load(here.token)


def test_an_unused_map_expires_and_a_used_one_lives_on(maps: MapsServer) -> None:
    used, unused = unique(maps, "used"), unique(maps, "unused")
    tokens = [created["layergroupid"].partition(":")[0] for created in (used, unused)]
    with psycopg.connect(maps.master_url, autocommit=True) as conn:
        # An hour before its end the one is used; the other's end has come.
        conn.execute(
            "update flowmaps.stored_map set used_at = now() - interval '29 days', expires_at = now() + interval '1 hour'"
            " where token = %s",
            [tokens[0]],
        )
        conn.execute("update flowmaps.stored_map set expires_at = now() where token = %s", [tokens[1]])
    other = parse_settings(maps.environ)
    left = _expiry_after_load(other, tokens)
    assert left[0] > other.limit.map_lifetime_seconds - 60
    assert left[1] is None


def _expiry_after_load(settings: Settings, tokens: list[str]) -> list[Any]:
    from flowmaps.mapstore import open_map_store
    from flowmaps.tenants import TenantPools

    async def run() -> list[Any]:
        found: list[Any] = []
        async with TenantPools(settings) as tenants, open_map_store(settings, tenants.master) as store:
            for token in tokens:
                try:
                    await store.load(token)
                except UnknownMap:
                    found.append(None)
                    continue
                async with tenants.master() as conn:
                    cursor = await conn.execute(
                        "select extract(epoch from expires_at - now()) from flowmaps.stored_map where token = %s",
                        [token],
                    )
                    row = await cursor.fetchone()
                    assert row is not None
                    found.append(float(row[0]))
        return found

    return asyncio.run(run())


def command(maps: MapsServer, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowmaps", "maps", *words],
        env={**os.environ, **maps.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_operators_list_and_revoke_maps(maps: MapsServer) -> None:
    one, two = unique(maps, "listed 1"), unique(maps, "listed 2")
    tokens = [created["layergroupid"].partition(":")[0] for created in (one, two)]
    listed = command(maps, "list", maps.topic)
    assert listed.returncode == 0, listed.stderr
    assert all(token in listed.stdout for token in tokens)
    revoked = command(maps, "revoke", one["layergroupid"], tokens[1])
    assert (revoked.returncode, "2 maps revoked" in revoked.stdout) == (0, True)
    again = command(maps, "revoke", tokens[0])
    assert again.returncode == 2
    assert f"no live map: {tokens[0]}" in again.stderr
    with psycopg.connect(maps.master_url) as conn:
        left = conn.execute("select count(*) from flowmaps.stored_map where token = any(%s)", [tokens]).fetchone()
    assert left == (0,)


# --- through nginx


@pytest.fixture(scope="module")
def front(maps: MapsServer) -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory(prefix="front-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        nginx = Nginx(Path(folder) / "nginx", [maps.url.removeprefix("http://")])
        nginx.start()
        try:
            yield nginx
        finally:
            nginx.stop()


def test_the_front_door_lets_the_maps_api_through(maps: MapsServer, front: Nginx) -> None:
    document = {
        "version": "1.8.0",
        "layers": [layer(f"{POINTS} where identifier <> 'front'", interactivity="identifier")],
    }
    query = {"topic": maps.topic, "config": json.dumps(document)}
    assert maps.client.get(f"{front.url}/create-map", params=query).status_code == 401
    created = maps.client.get(f"{front.url}/create-map", params=query, headers=maps.authorization)
    assert created.status_code == 200
    assert created.headers["access-control-allow-origin"] == "*"
    group = created.json()["layergroupid"]
    # Addresses in the answer are those of the front door.
    assert created.json()["metadata"]["url"]["raster"]["urlTemplate"].startswith(f"{front.url}/layergroup/{group}/")
    for path, kind in (
        (f"/layergroup/{group}", "application/json; charset=utf-8"),
        (f"/layergroup/{group}/0/0/0.grid.json", "application/json; charset=utf-8"),
        (f"/layergroup/{group}/tilejson.json", "application/json; charset=utf-8"),
        (f"/layergroup/{group}/0/0/0.mvt", "application/x-protobuf"),
        (f"/layergroup/static/center/{group}/0/0/0/50/50.png", "image/png"),
    ):
        answer = maps.client.get(f"{front.url}{path}", headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind), path
        assert answer.headers["access-control-allow-origin"] == "*"
        is_text = kind.startswith("application/json")
        assert (answer.headers.get("content-encoding") == "gzip") is is_text, path
    grid = maps.client.get(f"{front.url}/layergroup/{group}/0/0/0.grid.json", headers={"Accept-Encoding": "gzip"})
    tag = grid.headers["etag"]
    again = maps.client.get(f"{front.url}/layergroup/{group}/0/0/0.grid.json", headers={"If-None-Match": tag})
    assert again.status_code == 304
    preflight = maps.client.options(f"{front.url}/layergroup/{group}")
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, DELETE, OPTIONS"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert maps.client.delete(f"{front.url}/layergroup/{group}/0/0/0.png").status_code == 405
    assert maps.client.post(f"{front.url}/layergroup", json={}).status_code == 404
    assert maps.client.post(f"{front.url}/layergroup/", json={}).status_code == 405
    assert maps.client.delete(f"{front.url}/layergroup/{group}").status_code == 401
    assert maps.client.delete(f"{front.url}/layergroup/{group}", headers=maps.authorization).status_code == 204
    log = front.access_log.read_text()
    token = group.partition(":")[0]
    assert token[:8] in log
    assert token not in log
    assert "select" not in log


def test_no_log_holds_a_whole_token(maps: MapsServer) -> None:
    created = unique(maps, "logged")
    for path in ("0/0/0.png?callback=f", "99/0/0.png", "0/0/0/0.torque.json"):
        maps.client.get(f"{maps.url}/layergroup/{created['layergroupid']}/{path}")
    maps.static(created, "center", "0/0/0/99999/1.png")
    log = maps.process.log.read_text()
    assert created["layergroupid"].partition(":")[0] not in log
    assert not re.search(r"\b[0-9a-f]{32}\b", log)
