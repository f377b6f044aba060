"""Compile stylesheets, load them in the installed Mapnik and draw tiny maps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mapnik
from PIL import Image

from flowmaps.cartocss import Limits, MapLayer, build_map, compile_layer

SIZE_PX = 128
EXTENT = 1000.0
_WAVE = [(x, 500 + (180 if x // 25 % 2 else -180) * (0.3 if x // 50 % 2 else 1)) for x in range(-100, 1101, 25)]
GEOMETRIES = {
    "edge": ["POINT(15 500)"],
    "pair": ["POINT(350 300)", "POINT(650 700)"],
    "short": ["LINESTRING(250 300,500 600,750 300)"],
    "sharp": ["LINESTRING(300 450,400 800,450 300,550 800,600 300,700 800)"],
    "wave": ["LINESTRING(" + ",".join(f"{x} {y}" for x, y in _WAVE) + ")"],
    "jagged": ["POLYGON((-100 100," + ",".join(f"{x} {y}" for x, y in _WAVE) + ",1100 100,-100 100))"],
    "horseshoe": ["POLYGON((100 100,100 900,900 900,900 700,300 700,300 300,900 300,900 100,100 100))"],
    "point": ["POINT(500 500)", "POINT(530 500)", "POINT(150 150)"],
    "line": ["LINESTRING(-100 300,300 700,500 350,700 650,1100 400)"],
    "polygon": ["POLYGON((150 150,150 850,500 700,850 850,850 150,150 150))"],
    "parts": ["MULTIPOLYGON(((100 100,100 800,600 800,600 100,100 100)),((750 600,750 900,950 900,950 600,750 600)))"],
}
FONTS = frozenset(mapnik.FontEngine.face_names())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Mapnik's own log off the terminal."""
    before = mapnik.logger.get_severity()
    mapnik.logger.set_severity(getattr(mapnik.severity_type, "None"))
    try:
        yield
    finally:
        mapnik.logger.set_severity(before)


def write_files(folder: Path) -> None:
    """Write the files that styles may name: a marker and a raster of heights 0 to 255."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = b"".join(
        b"\0" + b"".join(bytes((x * 16, y * 16, 128, 255 if x + y < 24 else 0)) for x in range(16)) for y in range(16)
    )
    header = struct.pack(">IIBBBBB", 16, 16, 8, 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    (folder / "marker.png").write_bytes(png)
    (folder / "marker.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="12" height="8" viewBox="0 0 12 8">'
        '<path d="M0 0 L12 0 L12 3 L6 8 Z" fill="#c06"/></svg>'
    )
    heights = Image.new("F", (16, 16))
    heights.putdata([(x * 13 + y * 7) % 256 for y in range(16) for x in range(16)])
    heights.save(folder / "heights.tif")
    cell = EXTENT / 16
    (folder / "heights.tfw").write_text(f"{cell}\n0\n0\n{-cell}\n{cell / 2}\n{EXTENT - cell / 2}\n")


def datasource(geometry: str, folder: Path, fields: Mapping[str, str]) -> dict[str, str]:
    """Return a layer's datasource: vector features with the same *fields*, or the raster of `write_files`."""
    if geometry == "raster":
        return {"type": "gdal", "file": str(folder / "heights.tif"), "band": "1"}
    head = ",".join(("wkt", *fields))
    rows = "\n".join(f'"{wkt}",' + ",".join(f'"{value}"' for value in fields.values()) for wkt in GEOMETRIES[geometry])
    return {"type": "csv", "inline": f"{head}\n{rows}\n"}


def map_xml(
    css: str,
    *,
    folder: Path | None = None,
    geometry: str = "",
    fields: Mapping[str, str] | None = None,
    **options: object,
) -> str:
    """Return the XML of the map of *css*; every file that the style names becomes a marker of *folder*."""

    def resolve(name: str) -> str:
        kind = "svg" if name.endswith(".svg") and "[" not in name else "png"
        return str(folder / f"marker.{kind}") if folder is not None else name

    settings = {"layer_id": "pts", "classes": ("pts", "area"), "fonts": FONTS, "resources": resolve, **options}
    style = compile_layer(css, **settings)  # type: ignore[arg-type]
    source = (
        datasource(geometry, folder, fields or {"name": "fig ab", "n": "3", "m": "1", "c": "#00ff00"})
        if geometry and folder
        else {}
    )
    return build_map([MapLayer(style, source)], limits=Limits())


def load(xml: str, *, strict: bool = True) -> mapnik.Map:
    """Load a map; strict loading raises RuntimeError also for what Mapnik would only ignore."""
    loaded = mapnik.Map(SIZE_PX, SIZE_PX)
    with quiet():
        mapnik.load_map_from_string(loaded, xml, strict, "")
    return loaded


def draw(xml: str, *, extent: float = EXTENT) -> bytes:
    """Return the pixels of a map, RGBA."""
    loaded = load(xml)
    loaded.zoom_to_box(mapnik.Box2d(0, 0, extent, extent))
    image = mapnik.Image(SIZE_PX, SIZE_PX)
    with quiet():
        mapnik.render_with_vars(loaded, image, {"size": 7})
    pixels: bytes = image.to_string()
    return pixels


def is_blank(pixels: bytes) -> bool:
    return not any(pixels)
