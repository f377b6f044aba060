"""The smoke test of a running deployment: token, map, one PNG, one grid, one vector tile, each timed."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image, UnidentifiedImageError

from flowmaps.errors import FlowMapsError

TIMEOUT_SECONDS = 30.0


class CheckFailed(FlowMapsError):
    """A step of the check did not give what it should."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that worked: what it was, how long it took, and what it gave."""

    name: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to get a token: a ready one, or a client at a token endpoint."""

    token: str = ""
    token_url: str = ""
    client_id: str = ""
    client_secret: str = ""


def sample_map(layer_sql: str = "select *, properties->>'displayName' as name from datapoint") -> dict[str, Any]:
    """Return a MapConfig that shows all datapoints of a tenant and tells their names."""
    return {
        "version": "1.5.0",
        "layers": [
            {
                "type": "mapnik",
                "options": {
                    "sql": layer_sql,
                    "cartocss": (
                        "#datapoint { marker-width: 5; marker-fill: #2b8a6b; marker-line-color: #fff; "
                        "marker-line-width: 0.5; marker-allow-overlap: true; "
                        "[zoom >= 6] { marker-width: 7; } [zoom >= 9] { marker-width: 11; } "
                        "[survey_id = '3002'] { marker-fill: #e08214; } "
                        "[survey_id = '3003'] { marker-fill: #c51b5a; } }"
                    ),
                    "cartocss_version": "3.0.12",
                    "interactivity": ["name", "survey_id", "identifier"],
                },
            }
        ],
    }


def fetch_token(client: httpx.Client, credentials: Credentials) -> str:
    """Return an access token by the client credentials grant; raise `CheckFailed`."""
    if credentials.token:
        return credentials.token
    answer = _ask(
        lambda: client.post(
            credentials.token_url,
            data={"grant_type": "client_credentials"},
            auth=(credentials.client_id, credentials.client_secret),
        )
    )
    if answer.status_code != httpx.codes.OK:
        raise CheckFailed(f"the token endpoint answers {answer.status_code}: {answer.text[:300]}")
    return str(answer.json()["access_token"])


def create(client: httpx.Client, url: str, token: str, topic: str, document: object) -> dict[str, Any]:
    """Create a map and return the answer; raise `CheckFailed`."""
    answer = _ask(
        lambda: client.post(
            f"{url}/create-map", json={"topic": topic, "map": document}, headers={"Authorization": f"Bearer {token}"}
        )
    )
    if answer.status_code != httpx.codes.OK:
        raise CheckFailed(f"/create-map answers {answer.status_code}: {answer.text[:300]}")
    created: dict[str, Any] = answer.json()
    return created


def check_deployment(url: str, topic: str, credentials: Credentials, *, verify: bool | str = True) -> Iterator[Step]:
    """Yield each step as it works; raise `CheckFailed` at the first that does not.

    *verify* is whether certificates are verified, or the file of authorities to verify them with.
    """
    url = url.rstrip("/")
    with httpx.Client(timeout=TIMEOUT_SECONDS, verify=verify) as client:
        with _timed() as taken:
            token = fetch_token(client, credentials)
        yield Step("token", taken(), "given" if credentials.token else "fetched")
        with _timed() as taken:
            created = create(client, url, token, topic, sample_map())
        map_id = created["layergroupid"]
        has_data = created["metadata"].get("bounds") is not None
        yield Step("map", taken(), f"{map_id[:8]}…, {'data' if has_data else 'no data yet'}")
        with _timed() as taken:
            body = _get(client, f"{url}/layergroup/{map_id}/0/0/0.png", "image/png")
            detail = _check_png(body, has_data=has_data)
        yield Step("png", taken(), detail)
        with _timed() as taken:
            body = _get(client, f"{url}/layergroup/{map_id}/0/0/0/0.grid.json", "application/json")
            detail = _check_grid(body, has_data=has_data)
        yield Step("grid", taken(), detail)
        with _timed() as taken:
            body = _get(
                client, f"{url}/layergroup/{map_id}/0/0/0.mvt", "application/x-protobuf", may_be_empty=not has_data
            )
        yield Step("vector tile", taken(), f"{len(body)} bytes")


def _get(client: httpx.Client, address: str, content_type: str, *, may_be_empty: bool = False) -> bytes:
    answer = _ask(lambda: client.get(address))
    if may_be_empty and answer.status_code == httpx.codes.NO_CONTENT:
        return b""
    if answer.status_code != httpx.codes.OK:
        raise CheckFailed(f"a tile answers {answer.status_code}: {answer.text[:300]}")
    if not answer.headers.get("content-type", "").startswith(content_type):
        raise CheckFailed(f"a tile is {answer.headers.get('content-type')} and not {content_type}")
    return answer.content


def _check_png(body: bytes, *, has_data: bool) -> str:
    try:
        image = Image.open(io.BytesIO(body)).convert("RGBA")
    except UnidentifiedImageError as error:
        raise CheckFailed("the PNG cannot be read") from error
    drawn = sum(1 for alpha in image.getchannel("A").tobytes() if alpha)
    if has_data and not drawn:
        raise CheckFailed("the PNG is empty, but the tenant has data")
    return f"{image.width} by {image.height}, {drawn} pixels drawn"


def _check_grid(body: bytes, *, has_data: bool) -> str:

    grid = json.loads(body)
    features = len(grid["data"])
    if has_data and not features:
        raise CheckFailed("the grid is empty, but the tenant has data")
    return f"{features} features"


def _ask(question: Callable[[], httpx.Response]) -> httpx.Response:
    try:
        return question()
    except httpx.HTTPError as error:
        raise CheckFailed(f"no answer: {error!r}") from error


@contextmanager
def _timed() -> Iterator[Callable[[], float]]:
    started = time.perf_counter()
    ended: list[float] = []
    yield lambda: ended[0] if ended else time.perf_counter() - started
    ended.append(time.perf_counter() - started)
