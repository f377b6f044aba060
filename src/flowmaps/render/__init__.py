"""Draw tiles of every kind: each in a file of its own behind one contract, heavy work in worker processes."""

from flowmaps.render.blocks import BlockRenderer
from flowmaps.render.contract import Renderer, Tile, TileRequest
from flowmaps.render.job import Block, MapJob, MapPlan, Rendered
from flowmaps.render.pictures import Picture, Pictures
from flowmaps.render.plan import PlannedLayer, plan_map
from flowmaps.render.pool import RenderPool

__all__ = [
    "Block",
    "BlockRenderer",
    "MapJob",
    "MapPlan",
    "Picture",
    "Pictures",
    "PlannedLayer",
    "RenderPool",
    "Rendered",
    "Renderer",
    "Tile",
    "TileRequest",
    "plan_map",
]
