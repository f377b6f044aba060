"""Make a checked MapConfig ready to be drawn: SQL vetted, styles compiled. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowmaps.cartocss import FALLBACK_FONT, CartoError, LayerStyle, compile_layer
from flowmaps.errors import InvalidCartoCSS, InvalidMapConfig, InvalidSQL
from flowmaps.mapconfig import Layer, MapConfig, parse_mapconfig
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.mapsql import TokenValues, subquery, substitute_tokens, vet
from flowmaps.render import MapPlan, PlannedLayer
from flowmaps.settings import LimitSettings
from flowmaps.tile import TileCoord

RENDER_VARIABLES = ("zoom",)
"""What a render worker sets while it draws; styles may use it as ``'@zoom'``."""
WORLD_TILE = TileCoord(0, 0, 0)


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A layer whose SQL is vetted; *style* is its compiled CartoCSS, or None where it has none."""

    layer: Layer
    sql: str
    style: LayerStyle | None

    @property
    def table(self) -> str:
        """The SQL as a sub-query, with its tokens for Mapnik to fill in."""
        return subquery(self.sql)

    def query(self, tile: TileCoord = WORLD_TILE, buffer_px: float = 0) -> str:
        """Return the SQL as a sub-query with the tokens of a tile filled in."""
        values = TokenValues.of_tile(tile, srid=self.layer.srid, buffer_px=buffer_px)
        return subquery(substitute_tokens(self.sql, values))


@dataclass(slots=True)
class PreparedMap:
    """A map ready to be drawn, with the plans made for it so far."""

    config: MapConfig
    layers: Mapping[int, PreparedLayer]
    plans: dict[object, MapPlan] = field(default_factory=dict)

    def planned(self, layers: Sequence[Layer]) -> list[PlannedLayer]:
        """Return what Mapnik draws for *layers*, which all have a style."""
        planned = []
        for layer in layers:
            prepared = self.layers[layer.index]
            if prepared.style is None:
                raise InvalidMapConfig(f"Missing cartocss for layer {layer.index} options", layer=layer.index)
            planned.append(
                PlannedLayer(
                    style=prepared.style,
                    table=prepared.table,
                    geom_column=layer.geom_column,
                    srid=layer.srid,
                    raster_band=layer.raster_band,
                    is_raster=layer.is_raster,
                    minzoom=layer.minzoom,
                    maxzoom=layer.maxzoom,
                )
            )
        return planned


@dataclass(frozen=True, slots=True)
class StyleResources:
    """What styles may use: installed *fonts*, the one drawn for others, and *assets* by name."""

    fonts: frozenset[str]
    fallback_font: str = FALLBACK_FONT
    assets: Mapping[str, str] = field(default_factory=dict)


def prepare_map(document: object, *, limits: LimitSettings, resources: StyleResources) -> PreparedMap:
    """Return the map of a document; raise `InvalidMapConfig` and its kin, naming the layer."""
    config = parse_mapconfig(document, limits=limits)
    layers: dict[int, PreparedLayer] = {}
    for layer in config.layers:
        if layer.type != MAPNIK:
            text = f"Layers of type '{layer.type}' are not supported by this server"
            raise at_layer(InvalidMapConfig(text, kind="layer"), layer, "type")
        layers[layer.index] = PreparedLayer(layer, _vetted(layer), _compiled(layer, resources))
    return PreparedMap(config, layers)


def _vetted(layer: Layer) -> str:
    try:
        return vet(layer.sql or "").sql
    except InvalidSQL as error:
        raise at_layer(error, layer, "sql") from error


def _compiled(layer: Layer, resources: StyleResources) -> LayerStyle | None:
    if layer.cartocss is None:
        return None
    try:
        return compile_layer(
            layer.cartocss,
            # Its place and not its own id, as styles of one map must have different names.
            layer_id=f"layer{layer.index}",
            version=layer.cartocss_version or "",
            fonts=resources.fonts,
            fallback_font=resources.fallback_font,
            resources=resources.assets,
            variables=RENDER_VARIABLES,
            minzoom=layer.minzoom,
            maxzoom=layer.maxzoom,
            stylesheet=f"style{layer.index}",
        )
    except CartoError as error:
        raise at_layer(InvalidCartoCSS(error.message, kind="layer", subtype="style"), layer, "cartocss") from error


def at_layer(error: InvalidMapConfig, layer: Layer, option: str) -> InvalidMapConfig:
    """Return *error* with the layer that it is about."""
    error.layer = layer.index
    error.layer_id = layer.id
    error.layer_type = layer.type
    error.kind = "layer"
    error.member = error.member or f"layers[{layer.index}].options.{option}"
    return error
