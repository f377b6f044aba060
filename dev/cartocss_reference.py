"""Derive the compiler's reference data from the npm package mapnik-reference (public domain).

Usage: ``npm install mapnik-reference@8.10.0`` in a scratch folder, then
``python dev/cartocss_reference.py SCRATCH/node_modules/mapnik-reference``.
Version 3.0.22 with our overlay for Mapnik 4.3 becomes ``mapnik-4.3.json``; version 3.0.6, the one that Windshaft
knows, becomes ``mapnik-3.0.6.json``; the colour names of 3.0.22 become ``colors.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "src" / "flowmaps" / "cartocss" / "data"
DROPPED = ("doc", "default-meaning", "tagname")
GEOMETRY = ("polygon", "line", "markers", "shield", "line-pattern", "polygon-pattern", "text")
CSS_PREFIX = {"markers": "marker"}


def _entry(raw: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name not in DROPPED}


def _group(raw: dict[str, Any]) -> dict[str, Any]:
    return {name: _entry(entry) for name, entry in sorted(raw.items()) if entry.get("css")}


def derive(raw: dict[str, Any], *, version: str) -> dict[str, Any]:
    """Return the parts of one mapnik-reference version that the compiler uses."""
    return {
        "version": version,
        "style": _group(raw["style"]),
        "symbolizers": {name: _group(entries) for name, entries in sorted(raw["symbolizers"].items())},
        "filter": raw["filter"]["value"] if "filter" in raw else [],
    }


def _widen(entry: dict[str, Any], *words: str) -> None:
    entry["type"] = [*entry["type"], *words]


def overlay(reference: dict[str, Any]) -> None:
    """Add what the Mapnik 4.3 wheel accepts and no mapnik-reference knows; take out what it ignores."""
    symbolizers = reference["symbolizers"]
    for name in GEOMETRY:
        prefix = CSS_PREFIX.get(name, name)
        entries = symbolizers[name]
        entries["smooth-algorithm"] = {
            "css": f"{prefix}-smooth-algorithm",
            "type": ["basic", "adaptive"],
            "default-value": "basic",
            "expression": True,
        }
        entries["extend"] = {
            "css": f"{prefix}-extend",
            "type": "float",
            "default-value": 0.0,
            "expression": True,
        }
        if name not in ("text", "shield"):
            # Read, but the renderer of the wheel follows it for labels only.
            entries["extend"]["inert"] = True
    symbolizers["markers"]["spacing-offset"] = {
        "css": "marker-spacing-offset",
        "type": "float",
        "default-value": 0.0,
        "expression": True,
    }
    _widen(symbolizers["markers"]["placement"], "angled-point", "polylabel")
    for name in ("text", "shield"):
        _widen(symbolizers[name]["placement"], "polylabel")
        symbolizers[name]["lang"] = {"css": f"{name}-lang", "type": "string", "default-value": "", "expression": True}
    symbolizers["polygon-pattern"]["gamma-method"] = {
        "css": "polygon-pattern-gamma-method",
        "type": ["power", "linear", "none", "threshold", "multiply"],
        "default-value": "power",
        "expression": True,
    }
    symbolizers["raster"]["premultiplied"] = {
        "css": "raster-premultiplied",
        "type": "boolean",
        "default-value": False,
    }
    _widen(symbolizers["debug"]["mode"], "rings")
    # It is read as an expression, so what is none must be quoted.
    symbolizers["text"]["font-feature-settings"]["expression"] = True
    # The wheel takes a keyword only for these, no expression.
    for symbolizer, xml in (
        ("debug", "mode"),
        ("shield", "halo-rasterizer"),
        ("shield", "placement-type"),
        ("text", "placement-type"),
    ):
        del symbolizers[symbolizer][xml]["expression"]
    # The wheel logs these two as unread, and strict loading refuses them.
    symbolizers["shield"]["halo-transform"]["ignored"] = True
    symbolizers["shield"]["halo-comp-op"]["ignored"] = True
    symbolizers["raster"]["scaling"]["rewrite"] = {"fast": "near"}


def main(package: Path) -> None:
    newest = json.loads((package / "3.0.22" / "reference.json").read_text())
    windshaft = json.loads((package / "3.0.6" / "reference.json").read_text())
    current = derive(newest, version="4.3")
    overlay(current)
    colors = {name: channels for name, channels in newest["colors"].items() if name != "rebeccapurple"}
    colors["darkslategray"] = colors["darkslategrey"]
    documents = {
        "mapnik-4.3.json": current,
        "mapnik-3.0.6.json": derive(windshaft, version="3.0.6"),
        "colors.json": dict(sorted(colors.items())),
    }
    for name, document in documents.items():
        (DATA / name).write_text(json.dumps(document, separators=(",", ":"), sort_keys=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
