"""A server of maps with a tenant full of odd data, for tests of the Maps API over HTTP. No Kafka is needed for these."""

from __future__ import annotations

import io
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from PIL import Image

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
        return self.client.post(f"{self.url}/create-map", json=body, params=query, headers=self.authorization)

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

    def execute(self, statement: str) -> None:
        """Run SQL as the tenant's owner."""
        with psycopg.connect(self.tenant.conninfo_owner, autocommit=True) as conn:
            conn.execute(statement.encode())


def layer(sql_text: str, cartocss: str | None = RED, **options: Any) -> dict[str, Any]:
    """Return a mapnik layer; without a style it is for vector tiles only."""
    styled = {} if cartocss is None else {"cartocss": cartocss, "cartocss_version": "3.0.12"}
    return {"type": "mapnik", "options": {"sql": sql_text, **styled, **options}}


POINTS = "select * from datapoint"


@contextmanager
def maps_server(postgres: Postgres, **settings: str) -> Iterator[MapsServer]:
    """Start a server of maps with a tenant of its own; *settings* are added to its environment."""
    master_url = postgres.url_of(postgres.new_database())
    port, metrics_port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="maps-", dir="/var/tmp") as folder,
        development_issuer("tests", secrets.token_hex(8), audience=AUDIENCE, role=ROLE) as issuer,
        httpx.Client(timeout=60) as client,
    ):
        environ = {
            "FLOWMAPS_DATABASE_URL": master_url,
            "FLOWMAPS_SECRET_KEY": "a secret key for tests of maps",
            "FLOWMAPS_OIDC_ISSUER": issuer.url,
            "FLOWMAPS_SERVE_PORT": str(port),
            "FLOWMAPS_SERVE_METRICS_PORT": str(metrics_port),
            "FLOWMAPS_RENDER_DEADLINE_SECONDS": "4",
            "FLOWMAPS_RENDER_SCALE_FACTORS": "1,2,3",
            "FLOWMAPS_TENANT_STATEMENT_TIMEOUT_MS": "2000",
            **settings,
        }
        parsed = parse_settings(environ)
        migrate_master(master_url)
        topic = f"maps{secrets.token_hex(4)}.datapoint"
        tenant = provision_tenant(parsed, topic)
        with psycopg.connect(tenant.conninfo_owner, autocommit=True) as conn:
            conn.execute(DATA)
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
                environ,
                master_url,
            )
        finally:
            process.stop()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def maps(postgres: Postgres) -> Iterator[MapsServer]:
    """One server for all tests of the Maps API."""
    with maps_server(postgres) as server:
        yield server


def opened(body: bytes) -> Image.Image:
    with Image.open(io.BytesIO(body)) as image:
        return image.convert("RGBA")
