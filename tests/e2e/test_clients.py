"""Real map clients show our maps: Leaflet with a UTFGrid plugin, and MapLibre GL, in Chromium, from another origin."""

from __future__ import annotations

import functools
import io
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Browser, Page

from flowstack.browser import chromium
from flowstack.nginx import Nginx
from flowstack.npm import node_modules
from flowstack.postgres import Postgres
from maps_fixtures import MapsServer, layer, maps_server

SQL = "select identifier, the_geom_webmercator, 1 as n from datapoint"
RED = "#l { marker-width: 30; marker-fill: #ff0000; marker-line-width: 0; marker-allow-overlap: true; }"
AMSTERDAM, ACCRA = (4.9, 52.37), (-0.19, 5.56)
LEAFLET = """
<link rel="stylesheet" href="/leaflet/dist/leaflet.css">
<script src="/leaflet/dist/leaflet.js"></script>
<script src="/leaflet-utfgrid/L.UTFGrid-min.js"></script>
<body style="margin: 0"><div id="map" style="width: 600px; height: 400px"></div></body>
<script>
  var seen = { over: [], click: [], loaded: 0, failed: 0 };
  var map = L.map("map", { fadeAnimation: false, zoomAnimation: false }).setView(CENTRE, ZOOM);
  var tiles = L.tileLayer(TILES).on("tileload", () => seen.loaded++).on("tileerror", () => seen.failed++).addTo(map);
  var grid = L.utfGrid(GRID, { resolution: 4, mouseInterval: 10 }).addTo(map);
  grid.on("mouseover", (e) => seen.over.push(e.data));
  grid.on("click", (e) => seen.click.push(e.data));
  var place = (lng, lat) => { var p = map.latLngToContainerPoint([lat, lng]); return [p.x, p.y]; };
</script>
"""
MAPLIBRE = """
<link rel="stylesheet" href="/maplibre-gl/dist/maplibre-gl.css">
<body style="margin: 0"><div id="map" style="width: 600px; height: 400px"></div></body>
<script type="module">
  import * as maplibregl from "/maplibre-gl/dist/maplibre-gl.mjs";
  window.errors = [];
  window.map = new maplibregl.Map({
    container: "map", style: STYLE, center: CENTRE, zoom: ZOOM, fadeDuration: 0, attributionControl: false,
  });
  map.on("error", (e) => errors.push(String(e.error && e.error.message || e)));
  map.once("idle", () => { window.idle = true; });
  window.place = (lng, lat) => { const p = map.project([lng, lat]); return [p.x, p.y]; };
  window.features = (lng, lat) =>
    map.queryRenderedFeatures(map.project([lng, lat])).map((f) => [f.sourceLayer, f.properties]);
</script>
"""


class Pages:
    """A web server of another origin, with the clients' own files and the pages of the tests."""

    def __init__(self) -> None:
        self.html: dict[str, str] = {}
        pages = self.html

        class Handler(SimpleHTTPRequestHandler):
            extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

            def do_GET(self) -> None:
                if self.path not in pages:
                    super().do_GET()
                    return
                body = b"<!doctype html>" + pages[self.path].encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Be quiet."""

        handler = functools.partial(Handler, directory=str(node_modules()))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def add(self, template: str, **values: object) -> str:
        """Serve a page with *values* in the places of their names, and return its address."""
        for name, value in values.items():
            template = template.replace(name, json.dumps(value))
        path = f"/page{len(self.html)}.html"
        self.html[path] = template
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    assert Path(node_modules()).is_dir()
    running = Pages()
    yield running
    running.close()


@dataclass(frozen=True, slots=True)
class Front:
    """A server of maps behind nginx, as browsers reach it."""

    maps: MapsServer
    nginx: Nginx

    @property
    def url(self) -> str:
        return self.nginx.url

    def create(self, item: dict[str, Any]) -> str:
        """Create a map through nginx and return the address that its tiles are under."""
        body = {"topic": self.maps.topic, "map": {"version": "1.8.0", "layers": [item]}}
        answer = self.maps.client.post(f"{self.url}/create-map", json=body, headers=self.maps.authorization)
        assert answer.status_code == 200, answer.text
        return f"{self.url}/layergroup/{answer.json()['layergroupid']}"


@pytest.fixture(scope="module")
def front(postgres: Postgres) -> Iterator[Front]:
    """Two points in Amsterdam and one in Accra."""
    with maps_server(postgres) as maps, tempfile.TemporaryDirectory(prefix="clients-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        rows = ",".join(
            f"('{name}', st_setsrid(st_makepoint({longitude}, {latitude}), 4326))"
            for name, (longitude, latitude) in (("one", AMSTERDAM), ("two", AMSTERDAM), ("three", ACCRA))
        )
        maps.execute(f"delete from flowmaps.datapoint; insert into flowmaps.datapoint (identifier, geom) values {rows}")
        nginx = Nginx(Path(folder) / "nginx", [maps.url.removeprefix("http://")])
        nginx.start()
        yield Front(maps, nginx)
        nginx.stop()


@pytest.fixture
async def webgl() -> AsyncIterator[Browser]:
    async with chromium(webgl=True) as running:
        yield running


@pytest.fixture
async def page(webgl: Browser) -> AsyncIterator[Page]:
    """An empty page; an error in it, or an answer that is none, fails the test at the end."""
    opened = await webgl.new_page(viewport={"width": 600, "height": 400})
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("requestfailed", lambda request: problems.append(f"{request.url}: {request.failure}"))
    opened.on(
        "response",
        lambda answer: (
            problems.append(f"{answer.url}: {answer.status}")
            if answer.status >= 400 and "favicon" not in answer.url
            else None
        ),
    )
    yield opened
    assert problems == []


async def colour_at(page: Page, longitude: float, latitude: float) -> tuple[int, ...]:
    x, y = await page.evaluate("([lng, lat]) => place(lng, lat)", [longitude, latitude])
    image = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
    pixel = image.getpixel((round(x), round(y)))
    assert isinstance(pixel, tuple)
    return pixel


async def shown(page: Page, url: str) -> None:
    await page.goto(url)
    await page.wait_for_function("window.idle === true", timeout=60_000)
    assert await page.evaluate("errors") == []


def style_of(source: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    background = {"id": "paper", "type": "background", "paint": {"background-color": "#ffffff"}}
    return {"version": 8, "sources": {"points": source}, "layers": [background, {"source": "points"} | shape]}


PICTURES = {"id": "pictures", "type": "raster", "paint": {"raster-fade-duration": 0}}
CIRCLES = {
    "id": "circles",
    "type": "circle",
    "source-layer": "layer0",
    "paint": {"circle-radius": 12, "circle-color": "#0000ff"},
}


@pytest.mark.parametrize("zoom", [2, 9])
async def test_leaflet_shows_points_and_its_utfgrid_plugin_knows_them(
    page: Page, pages: Pages, front: Front, zoom: int
) -> None:
    base = front.create(layer(SQL, RED, interactivity="identifier"))
    values = {
        "CENTRE": [ACCRA[1], ACCRA[0]],
        "ZOOM": zoom,
        "TILES": f"{base}/{{z}}/{{x}}/{{y}}.png",
        "GRID": f"{base}/0/{{z}}/{{x}}/{{y}}.grid.json",
    }
    await page.goto(pages.add(LEAFLET, **values))
    await page.wait_for_function("seen.loaded > 0 && !tiles.isLoading()")
    await page.wait_for_load_state("networkidle")
    assert await page.evaluate("seen.failed") == 0
    assert await colour_at(page, *ACCRA) == (255, 0, 0)
    x, y = await page.evaluate("([lng, lat]) => place(lng, lat)", list(ACCRA))
    await page.mouse.move(500, 30)
    await page.mouse.move(x, y)
    await page.wait_for_function("seen.over.length > 0")
    await page.mouse.click(x, y)
    await page.wait_for_function("seen.click.length > 0")
    assert await page.evaluate("[seen.over[0].identifier, seen.click[0].identifier]") == ["three", "three"]
    await page.mouse.click(500, 30)
    await page.wait_for_function("seen.click.length > 1")
    assert await page.evaluate("seen.click[1]") is None


async def test_maplibre_shows_raster_tiles(page: Page, pages: Pages, front: Front) -> None:
    tiles = f"{front.create(layer(SQL, RED))}/{{z}}/{{x}}/{{y}}@2x.png"
    style = style_of({"type": "raster", "tiles": [tiles], "tileSize": 256}, PICTURES)
    await shown(page, pages.add(MAPLIBRE, STYLE=style, CENTRE=list(ACCRA), ZOOM=3))
    assert await colour_at(page, *ACCRA) == (255, 0, 0)
    assert await colour_at(page, 20, 0) == (255, 255, 255)


async def test_maplibre_shows_raster_tiles_by_tilejson(page: Page, pages: Pages, front: Front) -> None:
    address = f"{front.create(layer(SQL, RED))}/tilejson.json"
    style = style_of({"type": "raster", "url": address, "tileSize": 256}, PICTURES)
    await shown(page, pages.add(MAPLIBRE, STYLE=style, CENTRE=list(ACCRA), ZOOM=4))
    assert await colour_at(page, *ACCRA) == (255, 0, 0)


@pytest.mark.parametrize("by", ["tiles", "tilejson"])
async def test_maplibre_draws_vector_tiles_and_finds_their_features(
    page: Page, pages: Pages, front: Front, by: str
) -> None:
    base = front.create(layer(SQL, None))
    where = {"tiles": [f"{base}/{{z}}/{{x}}/{{y}}.mvt"]} if by == "tiles" else {"url": f"{base}/tilejson.json"}
    style = style_of({"type": "vector"} | where, CIRCLES)
    await shown(page, pages.add(MAPLIBRE, STYLE=style, CENTRE=list(AMSTERDAM), ZOOM=6))
    assert await colour_at(page, *AMSTERDAM) == (0, 0, 255)
    found = await page.evaluate("([lng, lat]) => features(lng, lat)", list(AMSTERDAM))
    assert sorted(properties["identifier"] for _, properties in found) == ["one", "two"]
    assert {name for name, _ in found} == {"layer0"}


async def test_maplibre_draws_points_by_what_a_cell_adds_up_to(page: Page, pages: Pages, front: Front) -> None:
    columns = {"total": {"aggregate_function": "sum", "aggregated_column": "n"}}
    base = front.create(layer(SQL, None, aggregation={"threshold": 1, "placement": "centroid", "columns": columns}))
    paint = {"circle-radius": 12, "circle-color": ["case", [">", ["get", "total"], 1], "#00ff00", "#0000ff"]}
    style = style_of({"type": "vector", "tiles": [f"{base}/{{z}}/{{x}}/{{y}}.mvt"]}, CIRCLES | {"paint": paint})
    await shown(page, pages.add(MAPLIBRE, STYLE=style, CENTRE=[2.3, 29], ZOOM=2))
    assert await colour_at(page, *AMSTERDAM) == (0, 255, 0)
    assert await colour_at(page, *ACCRA) == (0, 0, 255)
    found = await page.evaluate("([lng, lat]) => features(lng, lat)", list(AMSTERDAM))
    ((layer_id, shown_values),) = found
    # The address of the cell, by which its rows are asked for.
    assert shown_values.pop("cartodb_id")
    assert (layer_id, shown_values) == ("layer0", {"_cdb_feature_count": 2, "total": 2})


async def test_a_page_without_credentials_shows_an_open_named_map(page: Page, pages: Pages, front: Front) -> None:
    one = layer(SQL + " where identifier = '<%= which %>'", RED.replace("#ff0000", "<%= fill %>"))
    template = {
        "version": "0.0.1",
        "name": "one-point",
        "layergroup": {"layers": [one]},
        "placeholders": {
            "which": {"type": "sql_literal", "default": "one"},
            "fill": {"type": "css_color", "default": "red"},
        },
    }
    named = f"{front.url}/named/{front.maps.topic}"
    answer = front.maps.client.post(named, json=template, headers=front.maps.authorization)
    assert answer.json() == {"template_id": "one-point"}
    await page.goto(pages.add("<title>no map yet</title>"))
    created = await page.evaluate(
        """async ([url]) => {
          const headers = { "Content-Type": "application/json" };
          const body = JSON.stringify({ which: "three", fill: "#0f0" });
          return (await fetch(url, { method: "POST", headers, body })).json();
        }""",
        [f"{named}/one-point?auth_token=secret"],
    )
    tiles = f"{front.url}/layergroup/{created['layergroupid']}/{{z}}/{{x}}/{{y}}.png"
    style = style_of({"type": "raster", "tiles": [tiles], "tileSize": 256}, PICTURES)
    await shown(page, pages.add(MAPLIBRE, STYLE=style, CENTRE=[2.3, 29], ZOOM=2))
    assert await colour_at(page, *ACCRA) == (0, 255, 0)
    assert await colour_at(page, *AMSTERDAM) == (255, 255, 255)
    log = front.nginx.access_log.read_text(encoding="utf-8")
    assert f"/named/{front.maps.topic}/one-point" in log
    assert "secret" not in log
