"""Check a MapConfig document and turn it into values. The messages are part of the contract: clients match on them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapconfig.layer_options import http_options, plain_options
from flowmaps.mapconfig.statistics_option import StatisticsOption, parse_statistics
from flowmaps.mapconfig.values import (
    DEFAULT_GEOM_COLUMN,
    LAYER_TYPES,
    MAPNIK,
    WEB_MERCATOR_SRID,
    AttributesOption,
    Layer,
    MapConfig,
    Origin,
)
from flowmaps.settings import LimitSettings

INTERNAL_MEMBERS = ("dbparams", "ds", "cfg", "salt", "resolved", "templates")
"""Members that servers write themselves; from a client they would be an attack, so they are dropped."""
MAX_DEPTH = 32
MAX_NAME_BYTES = 63

_VERSION = re.compile(r"\s*v?(\d+)\.(\d+)\.(\d+)\s*")
_LOWEST, _HIGHEST = (1, 0, 0), (1, 8, 0)
_MIXED = (
    "The `mapnik` or `cartodb` layers must be consistent: `cartocss` option is either present or voided in all layers. "
    "Mixing is not allowed."
)


def parse_mapconfig(document: object, *, limits: LimitSettings, origins: Sequence[Origin] | None = None) -> MapConfig:
    """Return the map that *document*, decoded JSON, describes; raise `InvalidMapConfig` naming the member.

    *origins* say where the layers were for the caller, where that is not their place in *document*.
    """
    if not isinstance(document, Mapping):
        raise InvalidMapConfig("Missing layers array from layergroup config", member="layers")
    _check_depth(document)
    document = {name: value for name, value in document.items() if name not in INTERNAL_MEMBERS}
    version = _version(document.get("version"))
    raw_layers = document.get("layers")
    if not isinstance(raw_layers, list):
        raise InvalidMapConfig("Missing layers array from layergroup config", member="layers")
    if len(raw_layers) > limits.layers:
        text = f"The map has {len(raw_layers)} layers, the limit is {limits.layers}"
        raise InvalidMapConfig(text, member="layers")
    for index, raw in enumerate(raw_layers):
        if not isinstance(raw, Mapping) or not isinstance(raw.get("options"), Mapping):
            text = f"Missing options from layer {index} of layergroup config"
            raise InvalidMapConfig(text, member=f"layers[{index}].options", layer=index)
    buffersize = _buffersize(document.get("buffersize"))
    document["layers"] = [_normalised(raw) for raw in raw_layers]
    counters: dict[str, int] = {}
    layers = tuple(
        _layer(index, raw, counters, limits, Origin(index) if origins is None else origins[index])
        for index, raw in enumerate(document["layers"])
    )
    config = MapConfig(
        document=document,
        version=version,
        layers=layers,
        buffersize=buffersize,
        minzoom=_zoom(document.get("minzoom")),
        maxzoom=_zoom(document.get("maxzoom")),
    )
    _check_consistent(config)
    for layer in layers:
        _check_layer(layer, config)
    return config


def _check_depth(document: object) -> None:
    """Refuse documents that are nested so deeply that walking them would be a danger."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ())
            if isinstance(inner, Mapping | list)
        ]
        if not level:
            return
    raise InvalidMapConfig(f"The map is nested deeper than {MAX_DEPTH} levels")


def _version(value: object) -> str:
    if not value:
        return "1.0.0"
    match = _VERSION.fullmatch(value) if isinstance(value, str) else None
    if match is None or not _LOWEST <= tuple(int(part) for part in match.groups()) <= _HIGHEST:
        raise InvalidMapConfig(f"Unsupported layergroup configuration version {_shown(value)}", member="version")
    return ".".join(match.groups())


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text[:100]


def _buffersize(value: object) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidMapConfig("buffersize must be an object of numbers by format", member="buffersize")
    for name, size in value.items():
        if isinstance(size, bool) or not isinstance(size, int | float) or not math.isfinite(size):
            text = f'Buffer size of format "{name}" must be a number'
            raise InvalidMapConfig(text, member=f"buffersize.{name}")
        if not 0 <= size <= 1024:
            text = f'Buffer size of format "{name}" must be between 0 and 1024'
            raise InvalidMapConfig(text, member=f"buffersize.{name}")
    return {name: int(size) for name, size in value.items()}


def _normalised(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer with its interactivity as text, so that both spellings make the same map."""
    options = dict(raw["options"])
    interactivity = options.get("interactivity")
    if isinstance(interactivity, list) and all(isinstance(name, str) for name in interactivity):
        options["interactivity"] = ",".join(interactivity)
    return {**raw, "options": options}


def _layer(
    index: int, raw: Mapping[str, Any], counters: dict[str, int], limits: LimitSettings, origin: Origin
) -> Layer:
    options: Mapping[str, Any] = raw["options"]
    kind = raw.get("type")
    layer_type = MAPNIK if not kind or kind == "cartodb" else kind
    if layer_type not in LAYER_TYPES:
        text = f"Unknown type {_shown(kind)} of layer {origin.number}: there are {', '.join(LAYER_TYPES)}"
        raise InvalidMapConfig(text, member=origin.member("type"), layer=origin.number)
    number = counters.get(layer_type, 0)
    counters[layer_type] = number + 1
    explicit = raw.get("id")
    if explicit and not isinstance(explicit, str | int):
        text = f"The id of layer {origin.number} must be text"
        raise InvalidMapConfig(text, member=origin.member("id"), layer=origin.number)
    generated = f"layer{number}" if layer_type == MAPNIK else f"{layer_type}-layer{number}"
    problem = _Problem(origin, str(explicit or generated), layer_type)
    return Layer(
        index=index,
        origin=origin,
        id=problem.layer_id,
        is_explicit_id=bool(explicit),
        type=layer_type,
        options=options,
        sql=_text(options, "sql", limits.sql_bytes, problem),
        cartocss=_text(options, "cartocss", limits.cartocss_bytes, problem),
        cartocss_version=_text(options, "cartocss_version", 64, problem),
        geom_column=_text(options, "geom_column", MAX_NAME_BYTES, problem) or DEFAULT_GEOM_COLUMN,
        is_raster=_is_raster(options, problem),
        srid=_srid(options, problem),
        raster_band=_raster_band(options, problem),
        interactivity=_interactivity(options, problem) if layer_type == MAPNIK else (),
        attributes=_attributes(options, problem),
        minzoom=_zoom(options.get("minzoom")),
        maxzoom=_zoom(options.get("maxzoom")),
        affected_tables=_affected_tables(options, problem),
        columns=_columns(options, problem) if layer_type == MAPNIK else (),
        statistics=_statistics(options, problem) if layer_type == MAPNIK else StatisticsOption(),
    )


class _Problem:
    """Makes errors that name the layer they are about."""

    def __init__(self, origin: Origin, layer_id: str, layer_type: str) -> None:
        self.origin = origin
        self.index = origin.number
        self.layer_id = layer_id
        self.layer_type = layer_type

    def __call__(self, text: str, option: str) -> InvalidMapConfig:
        return InvalidMapConfig(
            text,
            member=self.origin.member(f"options.{option}"),
            layer=self.index,
            layer_id=self.layer_id,
            layer_type=self.layer_type,
            kind="layer",
        )


def _text(options: Mapping[str, Any], name: str, most_bytes: int, problem: _Problem) -> str | None:
    value = options.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise problem(f"The option {name} of layer {problem.index} must be text", name)
    if "\0" in value:
        raise problem(f"The option {name} of layer {problem.index} holds a NUL character", name)
    size = len(value.encode("utf-8", "replace"))
    if size > most_bytes:
        raise problem(f"The option {name} of layer {problem.index} has {size} bytes, the limit is {most_bytes}", name)
    return value


def _is_raster(options: Mapping[str, Any], problem: _Problem) -> bool:
    value = options.get("geom_type") or "geometry"
    if value not in ("geometry", "raster"):
        text = f"Unsupported geometry column type for layer {problem.index}: {_shown(value)}"
        raise problem(text, "geom_type")
    return bool(value == "raster")


def _srid(options: Mapping[str, Any], problem: _Problem) -> int:
    value = options.get("srid") or WEB_MERCATOR_SRID
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000:
        raise problem(f"The option srid of layer {problem.index} must be the number of a reference system", "srid")
    return value


def _raster_band(options: Mapping[str, Any], problem: _Problem) -> int | None:
    value = options.get("raster_band")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise problem(f"The option raster_band of layer {problem.index} must be a number", "raster_band")
    return value


def _interactivity(options: Mapping[str, Any], problem: _Problem) -> tuple[str, ...]:
    value = options.get("interactivity")
    if not value:
        return ()
    if not isinstance(value, str):
        # The word is JavaScript's: clients of the first servers match on it.
        kind = "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "object"
        text = f"Invalid interactivity value type for layer {problem.index}: {kind}"
        raise problem(text, "interactivity")
    # Blanks around a name would ask for a column that hardly anybody has.
    return tuple(dict.fromkeys(name.strip() for name in value.split(",")))


def _affected_tables(options: Mapping[str, Any], problem: _Problem) -> tuple[str, ...]:
    value = options.get("affected_tables")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise problem(f"The option affected_tables of layer {problem.index} must be a list of names", "affected_tables")
    return tuple(value)


def _columns(options: Mapping[str, Any], problem: _Problem) -> tuple[str, ...]:
    value = options.get("columns")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise problem(f"The option columns of layer {problem.index} must be a list of names", "columns")
    return tuple(dict.fromkeys(value))


def _statistics(options: Mapping[str, Any], problem: _Problem) -> StatisticsOption:
    try:
        return parse_statistics(options.get("metadata"))
    except InvalidMapConfig as error:
        raise problem(error.message, f"metadata.{error.member}".rstrip(".")) from error


def _attributes(options: Mapping[str, Any], problem: _Problem) -> AttributesOption | None:
    value = options.get("attributes")
    if value is None:
        return None
    if isinstance(value, Mapping):
        name, columns = value.get("id"), value.get("columns")
        if (
            isinstance(name, str)
            and name
            and isinstance(columns, list)
            and columns
            and all(isinstance(column, str) and column for column in columns)
        ):
            return AttributesOption(name, tuple(columns))
    text = f"The option attributes of layer {problem.index} must be an object with id and a list of columns"
    raise problem(text, "attributes")


def _zoom(value: object) -> float | None:
    """Return a zoom limit; what is not a number is no limit."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number and isinstance(value, int | float) else None


def _check_consistent(config: MapConfig) -> None:
    if not config.is_vector_only and any(layer.is_vector for layer in config.layers):
        raise InvalidMapConfig(_MIXED, member="layers")


def _check_layer(layer: Layer, config: MapConfig) -> None:
    problem = _Problem(layer.origin, layer.id, layer.type)
    match layer.type:
        case "mapnik":
            _check_mapnik(layer, config, problem)
        case "torque":
            _require(layer.sql, "sql", problem)
            if layer.cartocss is None:
                raise problem("TorqueRenderer: cartocss can't be undefined", "cartocss")
            if layer.cartocss and not layer.cartocss.strip():
                raise problem(f"style{problem.index}: CartoCSS is empty", "cartocss")
        case "http":
            _check_options(http_options, layer, problem)
        case "plain":
            _check_options(plain_options, layer, problem)


def _check_options(read: Callable[[Mapping[str, Any]], object], layer: Layer, problem: _Problem) -> None:
    try:
        read(layer.options)
    except InvalidMapConfig as error:
        raise problem(error.message, error.member or "") from error


def _check_mapnik(layer: Layer, config: MapConfig, problem: _Problem) -> None:
    if not config.is_vector_only:
        _require(layer.cartocss, "cartocss", problem)
        if "cartocss_version" not in layer.options:
            raise problem(f"Missing cartocss_version for layer {problem.index} options", "cartocss_version")
        if layer.cartocss is not None and not layer.cartocss.strip():
            error = problem(f"style{problem.index}: CartoCSS is empty", "cartocss")
            raise error
    _require(layer.sql, "sql", problem)
    if layer.is_raster and layer.interactivity:
        raise problem("Mapnik raster layers do not support interactivity", "interactivity")


def _require(value: str | None, name: str, problem: _Problem) -> None:
    if value is None:
        raise problem(f"Missing {name} for layer {problem.index} options", name)
