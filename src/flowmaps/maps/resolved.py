"""What the data decided about a map when it was created; stored with it, so that its tiles do not ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from flowmaps.mapconfig import Layer, MapConfig
from flowmaps.mapconfig.values import MAPNIK
from flowmaps.mapsql.aggregation import aggregated_sql, parse_aggregation

MEMBER = "resolved"
"""The member of a stored document; one that a client sends is dropped."""


@dataclass(frozen=True, slots=True)
class ResolvedLayer:
    """A layer's CartoCSS without ramps and their metadata; its source's columns where its points are aggregated."""

    cartocss: str | None = None
    cartocss_meta: Mapping[str, Any] | None = None
    source_columns: tuple[str, ...] | None = None

    @property
    def is_aggregated(self) -> bool:
        return self.source_columns is not None


@dataclass(frozen=True, slots=True)
class Resolved:
    """Layers by index; a layer that is not there is drawn as it is written.

    *tells_aggregation* is set where a layer could have been aggregated, so that clients are told which ones are.
    """

    layers: Mapping[int, ResolvedLayer] = field(default_factory=dict)
    tells_aggregation: bool = False

    def styled(self, config: MapConfig) -> MapConfig:
        """Return *config* with the resolved styles in its layers; its document stays as it came."""
        return replace(config, layers=tuple(self._styled(layer) for layer in config.layers))

    def _styled(self, layer: Layer) -> Layer:
        found = self.layers.get(layer.index)
        return layer if found is None or found.cartocss is None else replace(layer, cartocss=found.cartocss)

    def aggregated_sql(self, layer: Layer, sql: str) -> str | None:
        """Return the SQL that is drawn instead of the layer's own, or None."""
        found = self.layers.get(layer.index)
        if found is None or found.source_columns is None:
            return None
        aggregation = parse_aggregation(layer.options.get("aggregation"))
        if aggregation is None:
            return None
        return aggregated_sql(sql, aggregation, geom_column=layer.geom_column, columns=found.source_columns)

    def metadata(self, layer: Layer, *, is_vector_only: bool) -> dict[str, Any]:
        """Return what `meta` says of a layer."""
        found = self.layers.get(layer.index, ResolvedLayer())
        told: dict[str, Any] = {}
        if found.cartocss_meta is not None:
            told["cartocss_meta"] = found.cartocss_meta
        if self.tells_aggregation and layer.type == MAPNIK:
            told["aggregation"] = {
                "png": found.is_aggregated and not is_vector_only,
                "mvt": found.is_aggregated,
            }
        return told

    def stored_in(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *document* with all this in it."""
        if not self.layers and not self.tells_aggregation:
            return document
        layers = {
            str(index): {
                "cartocss": layer.cartocss,
                "cartocss_meta": layer.cartocss_meta,
                "source_columns": None if layer.source_columns is None else list(layer.source_columns),
            }
            for index, layer in self.layers.items()
        }
        return {**document, MEMBER: {"layers": layers, "tells_aggregation": self.tells_aggregation}}

    @classmethod
    def of_stored(cls, document: Mapping[str, Any]) -> Self:
        """Return what a stored document holds."""
        raw = document.get(MEMBER)
        if raw is None:
            return cls()
        layers = {
            int(index): ResolvedLayer(
                layer["cartocss"],
                layer["cartocss_meta"],
                None if layer["source_columns"] is None else tuple(layer["source_columns"]),
            )
            for index, layer in raw["layers"].items()
        }
        return cls(layers, raw["tells_aggregation"])
