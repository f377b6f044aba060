"""Know the properties of CartoCSS: which there are, what they take, and how Mapnik writes them.

The data is derived from mapnik-reference (public domain) with an overlay for Mapnik 4.3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

STYLE_LEVEL = "*"
"""The pseudo symbolizer of properties that become attributes of a Style."""
VERSIONS = ("4.3", "3.0.6")
TRANSFORMS: Mapping[str, tuple[int, ...]] = {
    "matrix": (6,),
    "translate": (1, 2),
    "scale": (1, 2),
    "rotate": (1, 3),
    "skewX": (1,),
    "skewY": (1,),
}
"""Transform functions with the numbers of arguments that Mapnik takes."""


@dataclass(frozen=True, slots=True)
class Property:
    """One CartoCSS property: where it belongs, its XML name and what it accepts."""

    css: str
    symbolizer: str
    xml: str
    type: str | tuple[str, ...]
    default: object
    required: bool
    expression: bool
    font: bool
    serialization: str
    status: str
    ignored: bool
    inert: bool
    rewrite: Mapping[str, str]

    @property
    def is_switch(self) -> bool:
        """Whether this is the whole-symbolizer property, such as ``line: none``."""
        return self.xml == "default"

    @property
    def is_image_filter(self) -> bool:
        return self.css in ("image-filters", "direct-image-filters")

    @property
    def is_transform(self) -> bool:
        return self.type == "functions" and not self.is_image_filter

    @property
    def type_name(self) -> str:
        """The type as messages spell it."""
        return self.type if isinstance(self.type, str) else f"keyword (options: {', '.join(self.type)})"


@dataclass(frozen=True, slots=True)
class Reference:
    """All properties of one Mapnik version, indexed."""

    version: str
    properties: Mapping[str, Property]
    required: Mapping[str, tuple[str, ...]]
    image_filters: Mapping[str, int]
    filter_keywords: frozenset[str]

    def suggestion(self, name: str) -> str | None:
        """Return the property nearest to *name*, where it is less than three edits away."""
        return nearest(name, self.properties, below=3)


def _property(symbolizer: str, xml: str, raw: Mapping[str, Any]) -> Property:
    kind = raw["type"]
    return Property(
        css=raw["css"],
        symbolizer=symbolizer,
        xml=xml,
        type=tuple(kind) if isinstance(kind, list) else kind,
        default=raw.get("default-value"),
        required=bool(raw.get("required")),
        expression=bool(raw.get("expression")),
        font=raw.get("validate") == "font",
        serialization=raw.get("serialization", "attribute"),
        status=raw.get("status", "stable"),
        ignored=bool(raw.get("ignored")),
        inert=bool(raw.get("inert")),
        rewrite=raw.get("rewrite", {}),
    )


def _load(name: str) -> Any:
    return json.loads(resources.files(__package__).joinpath("data", name).read_text(encoding="utf-8"))


@cache
def load_reference(version: str = "4.3") -> Reference:
    """Return the reference of *version*, one of `VERSIONS`."""
    if version not in VERSIONS:
        raise ValueError(f"no reference {version!r}; there are {', '.join(VERSIONS)}")
    raw = _load(f"mapnik-{version}.json")
    properties: dict[str, Property] = {}
    image_filters: dict[str, int] = {}
    groups = {STYLE_LEVEL: raw["style"], **raw["symbolizers"]}
    for symbolizer, entries in groups.items():
        for xml, entry in entries.items():
            known = _property(symbolizer, xml, entry)
            properties[known.css] = known
            if known.is_image_filter:
                image_filters.update(entry["functions"])
    required = {
        symbolizer: tuple(
            known.css for known in properties.values() if known.symbolizer == symbolizer and known.required
        )
        for symbolizer in groups
    }
    return Reference(
        version=version,
        properties=properties,
        required=required,
        image_filters=image_filters,
        filter_keywords=frozenset(raw["filter"]),
    )


def property_named(name: str, version: str = "4.3") -> Property:
    """Return what is known of a property; raise `KeyError`, with a suggestion, where there is none of that name."""
    reference = load_reference(version)
    if name not in reference.properties:
        suggestion = reference.suggestion(name)
        raise KeyError(f"no property {name}" + (f"; did you mean {suggestion}?" if suggestion else ""))
    return reference.properties[name]


@cache
def _colors() -> Mapping[str, tuple[float, float, float, float]]:
    return {
        name: (channels[0], channels[1], channels[2], channels[3] if len(channels) > 3 else 1.0)
        for name, channels in _load("colors.json").items()
    }


def color_channels(name: str) -> tuple[float, float, float, float] | None:
    """Return red, green, blue (0 to 255) and alpha (0 to 1) of a colour name, lower case only."""
    return _colors().get(name)


def color_names() -> Iterable[str]:
    return _colors().keys()


def nearest(word: str, candidates: Iterable[str], *, below: int) -> str | None:
    """Return the candidate with the least Levenshtein distance to *word*, where that is under *below*."""
    best, best_distance = None, below
    for candidate in candidates:
        if abs(len(candidate) - len(word)) < best_distance:
            distance = _distance(word, candidate)
            if distance < best_distance:
                best, best_distance = candidate, distance
    return best


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for index, char in enumerate(one, 1):
        previous, row[0] = row[0], index
        for column, against in enumerate(other, 1):
            previous, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, previous + (char != against)),
            )
    return row[-1]
