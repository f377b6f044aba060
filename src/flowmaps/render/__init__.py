"""Draw tiles with Mapnik in worker processes."""

from flowmaps.render.job import Block, MapPlan, Rendered, RenderJob
from flowmaps.render.plan import PlannedLayer, plan_map
from flowmaps.render.pool import RenderPool
from flowmaps.render.tiles import TileRenderer

__all__ = ["Block", "MapPlan", "PlannedLayer", "RenderJob", "RenderPool", "Rendered", "TileRenderer", "plan_map"]
