"""Make a checked MapConfig ready to be drawn: SQL vetted, styles compiled. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowmaps.cartocss import (
    FALLBACK_FONT,
    CartoError,
    CheckAddress,
    LayerStyle,
    Message,
    TorqueStyle,
    bind_variables,
    compile_layer,
    compile_torque,
    is_address,
    listed_assets,
    uses_variables,
)
from flowmaps.errors import InvalidCartoCSS, InvalidMapConfig, InvalidSQL, Position
from flowmaps.mapconfig import Layer, MapConfig, Origin, parse_mapconfig
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.maps.resolved import Resolved
from flowmaps.mapsql import (
    TokenValues,
    Variables,
    VettedSQL,
    subquery,
    substitute_tokens,
    substitute_variables,
    vet,
    vet_expression,
    zoom_variables,
)
from flowmaps.render import MapPlan, PlannedLayer
from flowmaps.settings import LimitSettings
from flowmaps.tile import TileCoord
from flowmaps.turbocarto import read_ramps

RENDER_VARIABLES = tuple(zoom_variables(0))
"""What is known while an image or a grid is drawn; styles may use it as ``'@zoom'``."""
WORLD_TILE = TileCoord(0, 0, 0)
MOST_REMEMBERED = 256
TRACKED_TABLES = frozenset(("datapoint", "public.datapoint"))
"""Tables whose last change is known; others may change without anybody being told."""


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A layer whose SQL is vetted; *tables* are the relations that it reads.

    *style* is a mapnik layer's compiled CartoCSS, or None where it has none; *torque* is that of a torque layer.
    *aggregated_sql* is drawn instead of the SQL where points are aggregated. *variables* are the operator's; in *style*
    they are filled in already.
    """

    layer: Layer
    sql: str
    style: LayerStyle | None
    torque: TorqueStyle | None = None
    tables: tuple[str, ...] = ()
    aggregated_sql: str | None = None
    variables: Variables = field(default_factory=dict)

    def table(self, zoom: int | None = None) -> str:
        """Return what is drawn as a sub-query, with its tokens for Mapnik to fill in, and those of *zoom* filled in."""
        known = self.variables if zoom is None else {**self.variables, **zoom_variables(zoom)}
        return subquery(substitute_variables(self.aggregated_sql or self.sql, known))

    def tokens(self, tile: TileCoord = WORLD_TILE, buffer_px: float = 0) -> TokenValues:
        """Return what the tokens of this layer stand for in a tile."""
        return TokenValues.of_tile(tile, srid=self.layer.srid, buffer_px=buffer_px, variables=self.variables)

    def query(self, tile: TileCoord = WORLD_TILE, buffer_px: float = 0) -> str:
        """Return what is drawn as a sub-query with the tokens of a tile filled in."""
        return subquery(substitute_tokens(self.aggregated_sql or self.sql, self.tokens(tile, buffer_px)))

    def query_of_world(self, zoom: int) -> str:
        """Return what is drawn of the whole world at the scale of *zoom*, as a sub-query."""
        scale = TokenValues.of_tile(TileCoord(zoom, 0, 0), srid=self.layer.srid)
        values = replace(scale, bbox=WORLD_TILE.bounds)
        return subquery(substitute_tokens(self.aggregated_sql or self.sql, values))

    def source_query(self) -> str:
        """Return the layer's own SQL as a sub-query, with the tokens of the whole world filled in."""
        return subquery(substitute_tokens(self.sql, self.tokens()))

    @property
    def varies_with_zoom(self) -> bool:
        """Whether the SQL or the style asks for the zoom as a variable."""
        in_sql = any(f"!@{name}!" in self.sql for name in RENDER_VARIABLES)
        return in_sql or (self.style is not None and uses_variables(self.style, RENDER_VARIABLES))


@dataclass(slots=True)
class PreparedMap:
    """A map ready to be drawn, with the plans made for it so far."""

    config: MapConfig
    layers: Mapping[int, PreparedLayer]
    resolved: Resolved = field(default_factory=Resolved)
    plans: dict[object, MapPlan] = field(default_factory=dict)
    _known: dict[tuple[object, ...], tuple[float, Any]] = field(default_factory=dict)

    @property
    def tables(self) -> frozenset[str]:
        """The relations that the map reads, and those that it says it depends on."""
        read = {name for item in self.layers.values() for name in item.tables}
        return frozenset(read.union(*(layer.affected_tables for layer in self.config.layers)))

    @property
    def addresses(self) -> frozenset[str]:
        """Addresses of the pictures that the styles name."""
        named: set[str] = set()
        for item in self.layers.values():
            if item.style is not None:
                named.update(item.style.addresses)
            if item.torque is not None:
                named.update(name for name in item.torque.files if is_address(name))
        return frozenset(named)

    @property
    def is_tracked(self) -> bool:
        """Whether ingest knows of every change of what the map shows."""
        return self.tables <= TRACKED_TABLES

    def recall(self, key: tuple[object, ...], now: float) -> Any:
        """Return what was remembered, unless its time is over; None where there is nothing."""
        until, value = self._known.get(key, (now, None))
        return value if until > now else None

    def remember(self, key: tuple[object, ...], value: object, until: float) -> None:
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = (until, value)

    def buffer_px(self, layers: Sequence[Layer], tile_format: str, default: int) -> float:
        """Return the buffer in tile pixels: of the last style that has one, else of the map, else *default*."""
        styles = [style for layer in layers if (style := self.layers[layer.index].style) is not None]
        declared = [style.map_properties["buffer-size"] for style in styles if "buffer-size" in style.map_properties]
        return float(declared[-1]) if declared else self.config.buffer_px(tile_format, default)

    def planned(self, layers: Sequence[Layer], files: Mapping[str, str], zoom: int | None = None) -> list[PlannedLayer]:
        """Return what Mapnik draws for *layers*, which all have a style; with *zoom* it need not be told that one.

        *files* are those of the styles' addresses.
        """
        planned = []
        for layer in layers:
            prepared = self.layers[layer.index]
            if prepared.style is None:
                raise InvalidMapConfig(f"Missing cartocss for layer {layer.index} options", layer=layer.index)
            style = prepared.style.with_files(files)
            planned.append(
                PlannedLayer(
                    style=style if zoom is None else bind_variables(style, zoom_variables(zoom)),
                    table=prepared.table(zoom),
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
    """What styles may use: installed *fonts*, the one drawn for others, *assets* by name, and addresses.

    *check_address* raises `RefusedResource` for an address that no picture is fetched from; without it none is.
    Render *variables* are for SQL as well.
    """

    fonts: frozenset[str]
    fallback_font: str = FALLBACK_FONT
    assets: Mapping[str, str] = field(default_factory=dict)
    check_address: CheckAddress | None = None
    variables: Variables = field(default_factory=dict)


def prepare_map(
    document: object,
    *,
    limits: LimitSettings,
    resources: StyleResources,
    resolved: Resolved | None = None,
    origins: Sequence[Origin] | None = None,
) -> PreparedMap:
    """Return the map of a document, and of what its data decided; raise `InvalidMapConfig` and its kin."""
    resolved = resolved or Resolved()
    config = resolved.styled(parse_mapconfig(document, limits=limits, origins=origins))
    layers: dict[int, PreparedLayer] = {}
    for layer in config.layers:
        if layer.type in (MAPNIK, "torque"):
            vetted = _vetted(layer)
            layers[layer.index] = PreparedLayer(
                layer,
                vetted.sql,
                style=_compiled(layer, resources) if layer.type == MAPNIK else None,
                torque=_torque(layer) if layer.type == "torque" else None,
                tables=vetted.tables,
                aggregated_sql=resolved.aggregated_sql(layer, vetted.sql),
                variables=resources.variables,
            )
    prepared = PreparedMap(config, layers, resolved)
    if len(addresses := prepared.addresses) > limits.pictures:
        text = f"The styles of the map name {len(addresses)} pictures by address, the limit is {limits.pictures}"
        raise InvalidMapConfig(text)
    return prepared


def check_map(document: object, *, limits: LimitSettings, resources: StyleResources) -> None:
    """Raise what `prepare_map` raises, as far as that can be said before the data answer: ramps are only read."""
    config = parse_mapconfig(document, limits=limits)
    for layer in config.layers:
        if layer.type in (MAPNIK, "torque"):
            _vetted(layer)
        if layer.cartocss is None:
            continue
        try:
            has_ramps = bool(read_ramps(layer.cartocss).ramps)
        except InvalidCartoCSS as error:
            raise at_layer(error, layer, "cartocss") from error
        if not has_ramps and layer.type == MAPNIK:
            _compiled(layer, resources)
        elif not has_ramps and layer.type == "torque":
            _torque(layer)


def _vetted(layer: Layer) -> VettedSQL:
    try:
        return vet(layer.sql or "")
    except InvalidSQL as error:
        raise at_layer(error, layer, "sql") from error


def _torque(layer: Layer) -> TorqueStyle:
    try:
        style = compile_torque(layer.cartocss or "", stylesheet=f"style{layer.origin.number}")
    except CartoError as error:
        raise _style_error(error, layer) from error
    try:
        # This text becomes part of a query; it is held to the same rules as the query itself.
        vet_expression(style.properties.countby)
    except InvalidSQL as error:
        raise at_layer(error, layer, "cartocss") from error
    return style


def position_in_style(message: Message) -> Position | None:
    """Return where in the layer's own CartoCSS a message points to."""
    return None if message.place is None else Position(message.place.line, message.place.column + 1)


def _style_error(error: CartoError, layer: Layer) -> InvalidMapConfig:
    first = error.messages[0]
    # Of the version a client knows this sentence, without the name of the style.
    message = first.text if first.text.startswith("No CartoCSS transform path") else error.message
    raised = InvalidCartoCSS(message, kind="layer", subtype="style")
    raised.position = position_in_style(first)
    return at_layer(raised, layer, "cartocss")


def _compiled(layer: Layer, resources: StyleResources) -> LayerStyle | None:
    if layer.cartocss is None:
        return None
    try:
        compiled = compile_layer(
            layer.cartocss,
            # Its place and not its own id, as styles of one map must have different names.
            layer_id=f"layer{layer.index}",
            version=layer.cartocss_version or "",
            fonts=resources.fonts,
            fallback_font=resources.fallback_font,
            resources=listed_assets(resources.assets, resources.check_address),
            variables=(*RENDER_VARIABLES, *resources.variables),
            minzoom=layer.minzoom,
            maxzoom=layer.maxzoom,
            stylesheet=f"style{layer.origin.number}",
        )
    except CartoError as error:
        raise _style_error(error, layer) from error
    return bind_variables(compiled, resources.variables)


def at_layer(error: InvalidMapConfig, layer: Layer, option: str) -> InvalidMapConfig:
    """Return *error* with the layer that it is about."""
    error.layer = layer.origin.number
    error.layer_id = layer.id
    error.layer_type = layer.type
    error.kind = "layer"
    error.member = error.member or layer.origin.member(f"options.{option}")
    return error
