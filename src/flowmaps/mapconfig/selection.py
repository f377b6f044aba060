"""Select the layers that a tile address asks for."""

from __future__ import annotations

import math
import re

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapconfig.values import LAYER_TYPES, MAPNIK, Layer, MapConfig

_NUMBER = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*|\s*0[xX][0-9a-fA-F]+\s*")
_INDEX = re.compile(r"-?\d+")


def is_single_number(selector: str | None) -> bool:
    """Tell whether *selector* names one layer by its number; only then is its own renderer asked."""
    return selector is not None and _NUMBER.fullmatch(selector) is not None


def select_layers(config: MapConfig, selector: str | None) -> tuple[Layer, ...]:
    """Return the layers that *selector* names, in the order they are painted; raise `InvalidMapConfig`.

    None is the same as ``mapnik``; ``all`` is every layer; a type's name all layers of that type; else a layer's
    number, a list of numbers, or a list of ids. Ids that were generated count after explicit ones.
    """
    if selector is None:
        selector = MAPNIK
    if selector == "all":
        return config.layers
    if selector in LAYER_TYPES:
        return tuple(layer for layer in config.layers if layer.type == selector)
    if is_single_number(selector):
        return (_numbered(config, selector),)
    parts = selector.split(",")
    indexes = _indexes(config, parts) if all(_INDEX.fullmatch(part) for part in parts) else _ids(config, parts)
    return tuple(config.layers[index] for index in sorted(indexes))


def _numbered(config: MapConfig, selector: str) -> Layer:
    text = selector.strip()
    number = float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    # "01" and "1.0" name no layer: only the plain spelling of a number does.
    if text.isdigit() and str(int(text)) == text and math.isfinite(number) and int(number) < len(config.layers):
        return config.layers[int(number)]
    raise InvalidMapConfig(f"Layer '{selector}' not found in layergroup")


def _indexes(config: MapConfig, parts: list[str]) -> list[int]:
    indexes = [int(part) for part in parts]
    if not all(0 <= index < len(config.layers) for index in indexes):
        raise InvalidMapConfig("Invalid layer filtering")
    return indexes


def _ids(config: MapConfig, parts: list[str]) -> list[int]:
    known: dict[str, int] = {}
    for layer in sorted(config.layers, key=lambda layer: not layer.is_explicit_id):
        known.setdefault(layer.id, layer.index)
    if not all(part in known for part in parts):
        raise InvalidMapConfig("Invalid layer filtering")
    return [known[part] for part in parts]
