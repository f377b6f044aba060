"""A server of maps with a tenant full of odd data, for tests of the Maps API over HTTP. No Kafka is needed for these."""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psycopg
import pytest
from PIL import Image, ImageChops
from psycopg import sql

from flowmaps.demo.issuer import Issuer, development_issuer
from flowmaps.settings import parse_settings
from flowmaps.tenants import Tenant, migrate_master, provision_tenant
from flowstack.postgres import Postgres
from flowstack.processes import Server, free_port

NIGHTLY = os.environ.get("FLOWMAPS_TEST_NIGHTLY") == "1"
ROLE = "akvo_flow_maps_client"
AUDIENCE = "flow-maps"
WORLD = 20037508.342789244
RED = "#layer { marker-width: 20; marker-fill: #ff0000; marker-line-width: 0; marker-allow-overlap: true; }"
FILL = "#layer { polygon-fill: #0000ff; }"

DATA = """
insert into flowmaps.datapoint (identifier, survey_id, created_date_time, last_update_date_time, geom, properties)
values
  ('a', 's1', '2020-01-01T00:00:00Z', '2020-01-02T00:00:00Z', st_setsrid(st_makepoint(0.01, 0.01), 4326), '{"name": "Accra"}'),
  ('b', 's1', '2020-01-03T00:00:00Z', '2020-01-04T00:00:00Z', st_setsrid(st_makepoint(90, 45), 4326), '{"name": "B"}'),
  ('c', 's2', '2020-01-05T00:00:00Z', '2020-01-06T00:00:00Z', st_setsrid(st_makepoint(-90, 45), 4326), '{"name": "C"}'),
  ('d', null, '2020-01-07T00:00:00Z', '2020-01-08T00:00:00Z', st_setsrid(st_makepoint(-90, -45), 4326), '{}');
"""
TABLES = """
create table lands (cartodb_id integer primary key, name text, "100% odd" integer, the_geom_webmercator geometry(Polygon, 3857));
insert into lands values
  (1, 'west', 1, st_makeenvelope(-20037508, -10000000, 0, 10000000, 3857)),
  (2, 'east', 2, st_makeenvelope(0, -10000000, 20037508, 10000000, 3857)),
  (3, 'nowhere', 3, null), (4, 'empty', 4, st_setsrid('POLYGON EMPTY'::geometry, 3857));
create table mixed (id integer, geom geometry);
insert into mixed values
  (1, st_setsrid('POINT(0 0)'::geometry, 4326)), (2, st_setsrid('LINESTRING(-60 0, 60 0)'::geometry, 4326)),
  (3, st_setsrid('POLYGON((10 10, 40 10, 40 40, 10 10))'::geometry, 4326)), (4, null),
  (5, st_setsrid('GEOMETRYCOLLECTION(POINT(5 5), LINESTRING(0 0, 5 5))'::geometry, 4326));
create table attributes (i integer, n integer, big bigint, price numeric, seen timestamptz, tags jsonb,
                         the_geom_webmercator geometry(Point, 3857));
insert into attributes values
  (1, 6, 9007199254740993, 1.50, '2020-02-03T04:05:06.789Z', '{{"a": [1]}}', st_setsrid('POINT(0 0)'::geometry, 3857)),
  (2, 6, 1, 2, null, null, st_setsrid('POINT(0 0)'::geometry, 3857)),
  (2, 6, 1, 2, null, null, st_setsrid('POINT(3 3)'::geometry, 3857));
create table hidden (id integer, the_geom_webmercator geometry(Point, 3857));
grant select on lands, mixed, attributes to {reader};
"""
RASTER = """
create extension if not exists postgis_raster;
create table pictures (id integer, the_raster_webmercator raster);
insert into pictures select 1, st_addband(st_makeemptyraster(64, 64, -10018754, 10018754, 313086, -313086, 0, 0, 3857),
    array[row(1, '8BUI', 200, null), row(2, '8BUI', 100, null), row(3, '8BUI', 50, null)]::addbandarg[]);
grant select on pictures to {reader};
"""


@dataclass(slots=True)
class MapsServer:
    """``flow-maps serve`` with one tenant; *url* is its own address, without nginx."""

    url: str
    metrics_url: str
    topic: str
    tenant: Tenant
    issuer: Issuer
    client: httpx.Client
    process: Server
    remote: RemoteServer
    environ: Mapping[str, str]
    master_url: str
    _token: str = ""
    _token_until: float = 0.0

    @property
    def token(self) -> str:
        if time.monotonic() > self._token_until:
            form = {"grant_type": "client_credentials"}
            answer = self.client.post(
                self.issuer.token_url, data=form, auth=(self.issuer.client_id, self.issuer.client_secret)
            )
            self._token = answer.json()["access_token"]
            self._token_until = time.monotonic() + 200
        return self._token

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def post(self, document: object, **query: str) -> httpx.Response:
        body = {"topic": self.topic, "map": document}
        # In ASCII, so that half of a pair of surrogates can be sent as well.
        headers = {**self.authorization, "Content-Type": "application/json"}
        return self.client.post(f"{self.url}/create-map", content=json.dumps(body), params=query, headers=headers)

    def create(self, *layers: Mapping[str, Any], **members: Any) -> dict[str, Any]:
        """Create a map and return the answer's document."""
        answer = self.post({"version": "1.8.0", "layers": list(layers), **members})
        assert answer.status_code == 200, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def refused(self, *layers: Mapping[str, Any], **members: Any) -> tuple[int, str, dict[str, Any]]:
        """Return status, message and context of a refused creation."""
        answer = self.post({"version": "1.8.0", "layers": list(layers), **members})
        assert answer.status_code != 200, answer.text
        body = answer.json()
        assert len(body["errors"]) == len(body["errors_with_context"]) == 1
        return answer.status_code, body["errors"][0], body["errors_with_context"][0]

    def get(self, created: Mapping[str, Any], path: str, **query: str) -> httpx.Response:
        return self.client.get(f"{self.url}/layergroup/{created['layergroupid']}/{path}", params=query)

    def static(self, created: Mapping[str, Any], kind: str, path: str, **query: str) -> httpx.Response:
        address = f"{self.url}/layergroup/static/{kind}/{created['layergroupid']}/{path}"
        return self.client.get(address, params=query)

    def execute(self, statement: str) -> None:
        """Run SQL as the tenant's owner."""
        with psycopg.connect(self.tenant.conninfo_owner, autocommit=True) as conn:
            conn.execute(statement.encode())


def layer(sql_text: str, cartocss: str | None = RED, **options: Any) -> dict[str, Any]:
    """Return a mapnik layer; without a style it is for vector tiles only."""
    styled = {} if cartocss is None else {"cartocss": cartocss, "cartocss_version": "3.0.12"}
    return {"type": "mapnik", "options": {"sql": sql_text, **styled, **options}}


POINTS = "select * from datapoint"


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """What the remote server says at a path, after *seconds*."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0


@dataclass(slots=True)
class RemoteServer:
    """Another server on this machine, whose images layers may show; *answers* are a test's own, by path."""

    port: int
    answers: dict[str, RemoteAnswer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shows(self, name: str, body: bytes = b"", **answer: Any) -> str:
        """Answer with *body* at an address that nobody asked for yet, and return that address."""
        path = f"/{secrets.token_hex(4)}/{name}"
        self.answers[path] = RemoteAnswer(body, **answer)
        return self.url + path

    def asked(self, address: str) -> int:
        """Return how often *address* was asked for."""
        return self.requests.count(address.removeprefix(self.url))


def picture(color: str | tuple[int, ...], size: tuple[int, int] = (256, 256), form: str = "PNG") -> bytes:
    body = io.BytesIO()
    Image.new("RGBA" if form == "PNG" else "RGB", size, color).save(body, form)
    return body.getvalue()


def checkered() -> bytes:
    """Four pixels: red, green, blue, white."""
    image = Image.new("RGBA", (2, 2))
    for place, color in (
        ((0, 0), (255, 0, 0)),
        ((1, 0), (0, 255, 0)),
        ((0, 1), (0, 0, 255)),
        ((1, 1), (255, 255, 255)),
    ):
        image.putpixel(place, (*color, 255))
    body = io.BytesIO()
    image.save(body, "PNG")
    return body.getvalue()


@contextmanager
def remote_server() -> Iterator[RemoteServer]:
    green, gif = picture((0, 255, 0, 255)), picture("blue", (256, 256), "GIF")
    large = picture((0, 0, 255, 255), (512, 512))
    small = checkered()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            remote.requests.append(self.path)
            remote.headers.append(dict(self.headers.items()))
            own = remote.answers.get(self.path)
            if own is not None:
                time.sleep(own.seconds)
                self.answer(own.status, own.body, "application/octet-stream", own.headers)
                return
            kind = self.path.split("/")[1]
            match kind:
                case "green":
                    self.answer(200, green, "image/png")
                case "gif":
                    self.answer(200, gif, "image/gif")
                case "large":
                    self.answer(200, large, "image/png")
                case "checkered":
                    self.answer(200, small, "image/png")
                case "text":
                    self.answer(200, b"<script>alert(1)</script>", "image/png")
                case "endless":
                    self.answer(200, b"\x89PNG" + b"x" * 200_000, "image/png")
                case "slow":
                    time.sleep(3)
                    self.answer(200, green, "image/png")
                case "redirect":
                    self.send_response(302)
                    self.send_header("Location", "/green/0/0/0.png")
                    self.end_headers()
                case _:
                    self.answer(404, b"", "text/plain")

        def answer(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "max-age=99999")
            self.send_header("X-Secret", "of the remote server")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Be quiet."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):
                # The client had enough, as the tests want it to.
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    remote = RemoteServer(server.server_port)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def maps_server(postgres: Postgres, **settings: str) -> Iterator[MapsServer]:
    """Start a server of maps with a tenant of its own; *settings* are added to its environment."""
    master_url = postgres.url_of(postgres.new_database())
    port, metrics_port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="maps-", dir="/var/tmp") as folder,
        development_issuer("tests", secrets.token_hex(8), audience=AUDIENCE, role=ROLE) as issuer,
        remote_server() as remote,
        httpx.Client(timeout=60) as client,
    ):
        environ = {
            "FLOWMAPS_DATABASE_URL": master_url,
            "FLOWMAPS_SECRET_KEY": "a secret key for tests of maps",
            "FLOWMAPS_OIDC_ISSUER": issuer.url,
            "FLOWMAPS_SERVE_PORT": str(port),
            "FLOWMAPS_SERVE_METRICS_PORT": str(metrics_port),
            "FLOWMAPS_SERVE_LAYER_URL_HOSTS": f"127.0.0.1:{remote.port},private.test:80",
            "FLOWMAPS_SERVE_LAYER_URL_NETWORKS": "127.0.0.1/32",
            "FLOWMAPS_SERVE_LAYER_URL_TIMEOUT_SECONDS": "1",
            "FLOWMAPS_SERVE_LAYER_URL_BYTES": "100000",
            "FLOWMAPS_RENDER_DEADLINE_SECONDS": "4",
            "FLOWMAPS_RENDER_SCALE_FACTORS": "1,2,3",
            "FLOWMAPS_TENANT_STATEMENT_TIMEOUT_MS": "2000",
            **settings,
        }
        parsed = parse_settings(environ)
        migrate_master(master_url)
        topic = f"maps{secrets.token_hex(4)}.datapoint"
        tenant = provision_tenant(parsed, topic)
        _fill(postgres, tenant)
        process = Server(
            "serve",
            [sys.executable, "-m", "flowmaps", "serve"],
            folder=Path(folder),
            environment=environ,
            ready=lambda: _is_ready(port),
        )
        process.start()
        try:
            yield MapsServer(
                f"http://127.0.0.1:{port}",
                f"http://127.0.0.1:{metrics_port}/metrics",
                topic,
                tenant,
                issuer,
                client,
                process,
                remote,
                environ,
                master_url,
            )
        finally:
            process.stop()


@contextmanager
def another_server(maps: MapsServer, **settings: str) -> Iterator[MapsServer]:
    """Start one more server over the same databases, with other *settings*."""
    port, metrics_port = free_port(), free_port()
    environ = {
        **maps.environ,
        "FLOWMAPS_SERVE_PORT": str(port),
        "FLOWMAPS_SERVE_METRICS_PORT": str(metrics_port),
        "FLOWMAPS_RENDER_WORKERS": "1",
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="maps-", dir="/var/tmp") as folder:
        process = Server(
            "serve",
            [sys.executable, "-m", "flowmaps", "serve"],
            folder=Path(folder),
            environment=environ,
            ready=lambda: _is_ready(port),
        )
        process.start()
        try:
            yield replace(
                maps,
                url=f"http://127.0.0.1:{port}",
                metrics_url=f"http://127.0.0.1:{metrics_port}/metrics",
                process=process,
                environ=environ,
            )
        finally:
            process.stop()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _fill(postgres: Postgres, tenant: Tenant) -> None:
    reader = sql.Identifier(tenant.reader.user)
    with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
        conn.execute(DATA)
        conn.execute(sql.SQL(TABLES).format(reader=reader))
    with psycopg.connect(postgres.url_of(tenant.database), autocommit=True) as conn:
        conn.execute(sql.SQL(RASTER).format(reader=reader))


@pytest.fixture(scope="session")
def maps(postgres: Postgres) -> Iterator[MapsServer]:
    """One server for all tests of the Maps API."""
    with maps_server(postgres) as server:
        yield server


def opened(body: bytes) -> Image.Image:
    with Image.open(io.BytesIO(body)) as image:
        return image.convert("RGBA")


def pixel_at(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    """Return red, green, blue and alpha of a pixel."""
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def difference(one: Image.Image, other: Image.Image, *, tolerance: int = 0) -> float:
    """Return the share of pixels of which a channel differs by more than *tolerance*."""
    assert one.size == other.size
    bands = ImageChops.difference(one, other).split()
    different = bands[0].point(lambda value: 255 if value > tolerance else 0)
    for band in bands[1:]:
        different = ImageChops.lighter(different, band.point(lambda value: 255 if value > tolerance else 0))
    return sum(different.histogram()[128:]) / (one.width * one.height)


def painted(image: Image.Image, color: Sequence[int], *, tolerance: int = 8) -> int:
    """Return how many pixels have *color*, red, green, blue and alpha."""
    flat = Image.new("RGBA", image.size, tuple(color))
    share = difference(image, flat, tolerance=tolerance)
    return round((1 - share) * image.width * image.height)
