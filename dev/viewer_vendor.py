"""Fetch what the viewer page brings along: Leaflet (BSD-2-Clause), and land areas of Natural Earth (public domain).

Usage: ``python dev/viewer_vendor.py`` with npm on the path. The result is committed, so that no build needs this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from shapely import Polygon, box
from shapely.affinity import translate

VENDOR = Path(__file__).resolve().parent.parent / "src" / "flowmaps" / "viewer" / "static" / "vendor"
PACKAGES = ("leaflet@1.9.4", "world-atlas@2.0.2")
LEAFLET_FILES = ("dist/leaflet.js", "dist/leaflet.css", "LICENSE")
DECIMALS = 2


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        npm = shutil.which("npm") or "npm"
        subprocess.run([npm, "install", "--no-save", "--ignore-scripts", *PACKAGES], cwd=folder, check=True)
        modules = folder / "node_modules"
        shutil.rmtree(VENDOR, ignore_errors=True)
        (VENDOR / "leaflet").mkdir(parents=True)
        for name in LEAFLET_FILES:
            shutil.copy(modules / "leaflet" / name, VENDOR / "leaflet" / Path(name).name)
        (VENDOR / "land").mkdir()
        topology = json.loads((modules / "world-atlas" / "land-50m.json").read_text())
        land = land_of(topology)
        (VENDOR / "land" / "land.json").write_text(json.dumps(land, separators=(",", ":")) + "\n")
        (VENDOR / "land" / "LICENSE").write_text(
            "Land areas: Natural Earth, 1:50 million, public domain, from the npm package world-atlas 2.0.2 (ISC).\n"
        )
    # The page takes no images from Leaflet, and a source map is not shipped.
    script = VENDOR / "leaflet" / "leaflet.js"
    script.write_text("".join(line for line in script.read_text().splitlines(True) if "sourceMappingURL" not in line))


def land_of(topology: dict[str, Any]) -> dict[str, Any]:
    """Return the land of a TopoJSON topology as one GeoJSON feature. Source: the TopoJSON specification, 2.1."""
    arcs = [_decoded(arc, topology["transform"]) for arc in topology["arcs"]]
    polygons = [
        part
        for geometry in topology["objects"]["land"]["geometries"]
        for polygon in (geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]])
        for part in _cut([_unrolled(_ring(ring, arcs)) for ring in polygon])
    ]
    return {"type": "Feature", "properties": {}, "geometry": {"type": "MultiPolygon", "coordinates": polygons}}


def _decoded(arc: list[list[int]], transform: dict[str, list[float]]) -> list[list[float]]:
    x = y = 0
    points = []
    for dx, dy in arc:
        x, y = x + dx, y + dy
        longitude = x * transform["scale"][0] + transform["translate"][0]
        latitude = y * transform["scale"][1] + transform["translate"][1]
        points.append([round(longitude, DECIMALS), round(latitude, DECIMALS)])
    return points


def _ring(indexes: list[int], arcs: list[list[list[float]]]) -> list[list[float]]:
    ring: list[list[float]] = []
    for index in indexes:
        points = arcs[index] if index >= 0 else arcs[~index][::-1]
        ring += points if not ring else points[1:]
    return ring


def _unrolled(ring: list[list[float]]) -> list[list[float]]:
    """Return *ring* without jumps from one side of the world to the other; longitudes then go beyond ±180.

    A ring around a pole does not close; it is led along the pole's edge of the map.
    """
    points = [list(ring[0])]
    for longitude, latitude in ring[1:]:
        turns = round((points[-1][0] - longitude) / 360)
        points.append([longitude + 360 * turns, latitude])
    if points[0][0] != points[-1][0]:
        pole = -90.0 if points[0][1] < 0 else 90.0
        points += [[points[-1][0], pole], [points[0][0], pole], points[0]]
    return points


def _cut(polygon: list[list[list[float]]]) -> list[list[list[list[float]]]]:
    """Return the parts of *polygon* within ±180 degrees, those beyond moved to where they belong."""
    whole = Polygon(polygon[0], polygon[1:])
    if not whole.is_valid:
        whole = whole.buffer(0)
    parts = []
    for turn in (-360, 0, 360):
        within = translate(whole, xoff=turn).intersection(box(-180, -90, 180, 90))
        for part in getattr(within, "geoms", [within]):
            if isinstance(part, Polygon) and not part.is_empty:
                rings = (part.exterior, *part.interiors)
                parts.append([[[round(x, DECIMALS), round(y, DECIMALS)] for x, y in ring.coords] for ring in rings])
    return parts


if __name__ == "__main__":
    main()
