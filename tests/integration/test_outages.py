"""What serve says while something that it needs is away, and that it goes on by itself afterwards."""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import httpx
import psycopg
import pytest

from flowmaps.settings import parse_settings
from flowmaps.tenants import migrate_master, provision_tenant
from flowstack.deployment import serving
from flowstack.keycloak import Keycloak
from flowstack.postgres import Postgres
from flowstack.processes import free_port
from flowstack.proxy import Proxy
from flowstack.stack import Stack
from records import map_of

STORES = ["", "redis"]


@dataclass
class Served:
    """A `serve` whose ways to PostgreSQL and to Redis can be cut."""

    url: str
    database: Proxy
    redis: Proxy
    topic: str
    token: str
    client: httpx.Client

    def create(self) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.client.post(f"{self.url}/create-map", json={"topic": self.topic, "map": map_of()}, headers=headers)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"{self.url}{path}")


def prepared(environ: dict[str, str], topic: str) -> None:
    """Make a tenant with one point."""
    migrate_master(environ["FLOWMAPS_DATABASE_URL"])
    tenant = provision_tenant(parse_settings(environ), topic)
    with psycopg.connect(tenant.conninfo_owner) as conn:
        conn.execute(
            "insert into flowmaps.datapoint (identifier, survey_id, geom)"
            " values ('one', '7', st_setsrid(st_makepoint(4.9, 52.37), 4326))"
        )


@pytest.fixture(params=STORES, ids=["maps in PostgreSQL", "maps in Redis"])
def served(
    request: pytest.FixtureRequest, postgres: Postgres, redis_url: str, keycloak: Keycloak, stack: Stack
) -> Iterator[Served]:
    name = postgres.new_database()
    with (
        Proxy(postgres.port) as database,
        Proxy(httpx.URL(redis_url).port or 0) as redis,
        httpx.Client(timeout=60) as client,
    ):
        environ = {
            "FLOWMAPS_DATABASE_URL": postgres.url_of(name).replace(f":{postgres.port}/", f":{database.port}/"),
            "FLOWMAPS_SECRET_KEY": "a secret key for one test",
            "FLOWMAPS_OIDC_ISSUER": keycloak.issuer,
            "FLOWMAPS_DATABASE_CONNECT_TIMEOUT_SECONDS": "2",
            "FLOWMAPS_MAP_STORE": redis_url.replace(f":{httpx.URL(redis_url).port}", f":{redis.port}")
            if request.param
            else "",
        }
        topic = f"org.{secrets.token_hex(4)}.datapoint"
        prepared(environ, topic)
        with serving(stack.folder / name, environ) as process:
            yield Served(process.url, database, redis, topic, keycloak.token(), client)


def eventually(question: Callable[[], Any], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["errors_with_context"][0]["type"] == "limit"
    # Where the database is, and as whom it is asked, is not for callers.
    assert "127.0.0.1" not in answer.text


def test_a_database_that_goes_away_and_comes_back(served: Served) -> None:
    map_id = served.create().json()["layergroupid"]
    path = f"/layergroup/{map_id}/6/32/21.png"
    assert served.get(path).status_code == 200
    served.database.close()
    assert_unavailable(served.create())
    assert_unavailable(served.get(f"/layergroup/{map_id}/7/64/42.png"))
    assert_unavailable(served.get(f"/layergroup/{map_id}/7/64/42.mvt"))
    assert served.get("/healthz").status_code == 200
    ready = served.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"] != "ok") == (503, True)
    served.database.open()
    eventually(lambda: served.get("/readyz").status_code == 200, "ready again")
    eventually(lambda: served.get(f"/layergroup/{map_id}/7/65/42.png").status_code == 200, "tiles again")
    assert served.create().json()["layergroupid"] == map_id


def test_maps_in_use_go_on_while_redis_is_away(served: Served, request: pytest.FixtureRequest) -> None:
    map_id = served.create().json()["layergroupid"]
    uses_redis = "Redis" in request.node.callspec.id
    served.redis.close()
    assert served.get(f"/layergroup/{map_id}/6/32/21.png").status_code == 200
    unknown = served.get(f"/layergroup/{'0' * 32}/6/32/21.png")
    if uses_redis:
        assert_unavailable(unknown)
        assert_unavailable(served.create())
    else:
        assert unknown.status_code == 400
        assert served.create().status_code == 200
    served.redis.open()
    eventually(lambda: served.create().status_code == 200, "maps are created again")


def test_an_issuer_that_never_answered_is_unavailable(postgres: Postgres, stack: Stack) -> None:
    name = postgres.new_database()
    environ = {
        "FLOWMAPS_DATABASE_URL": postgres.url_of(name),
        "FLOWMAPS_SECRET_KEY": "a secret key for one test",
        "FLOWMAPS_OIDC_ISSUER": f"http://127.0.0.1:{free_port()}/realms/none",
    }
    # The header and the claims are well-formed, so that only the keys are missing.
    token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.AAAA"
    with serving(stack.folder / name, environ) as process:
        answer = httpx.post(
            f"{process.url}/create-map", json={}, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        assert_unavailable(answer)
        assert httpx.post(f"{process.url}/create-map", json={}, timeout=30).status_code == 401


def test_serve_waits_for_a_database_that_comes_later(postgres: Postgres, stack: Stack) -> None:
    name = postgres.new_database()
    proxy = Proxy(postgres.port)
    environ = {
        "FLOWMAPS_DATABASE_URL": postgres.url_of(name).replace(f":{postgres.port}/", f":{proxy.port}/"),
        "FLOWMAPS_SECRET_KEY": "a secret key for one test",
    }
    opening = Timer(3, proxy.open)
    opening.start()
    try:
        with serving(stack.folder / name, environ) as process:
            assert httpx.get(f"{process.url}/readyz", timeout=30).status_code == 200
            assert "waiting for the master database" in process.server.log.read_text()
    finally:
        opening.join()
        proxy.close()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"FLOWMAPS_SECRET_KEY": ""}, "FLOWMAPS_SECRET_KEY"),
        ({"FLOWMAPS_LIMIT_LAYER": "3"}, "unknown setting FLOWMAPS_LIMIT_LAYER"),
        ({"FLOWMAPS_MAP_STORE": "memcached://x"}, "FLOWMAPS_MAP_STORE"),
    ],
)
def test_a_wrong_setting_stops_the_process_at_its_start(setting: dict[str, str], message: str, tmp_path: Path) -> None:
    environ = {"FLOWMAPS_DATABASE_URL": "postgresql://x@127.0.0.1/x", "FLOWMAPS_SECRET_KEY": "k" * 20} | setting
    for command in ("serve", "ingest"):
        ended = subprocess.run(
            [sys.executable, "-m", "flowmaps", command],
            env={"PATH": "/usr/bin:/bin"} | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr
