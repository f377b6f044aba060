"""Colour palettes by name: ColorBrewer's and CARTOColors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

FAMILIES = ("colorbrewer", "cartocolor")


@cache
def palettes(family: str) -> Mapping[str, Mapping[int, tuple[str, ...]]]:
    """Return the palettes of a family: name → number of classes → colours."""
    text = (resources.files("flowmaps.turbocarto") / "data" / "palettes.json").read_text("utf-8")
    raw: dict[str, dict[str, list[str]]] = json.loads(text)[family]
    return {name: {int(size): tuple(colours) for size, colours in sizes.items()} for name, sizes in raw.items()}
