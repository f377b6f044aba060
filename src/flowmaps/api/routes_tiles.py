"""Routes of what a map shows: tiles, attributes of features, static maps."""

from __future__ import annotations

import math
import re
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from flowmaps.api import schemas_http as schemas
from flowmaps.api.answers import CACHE_RENEWED, CACHE_SHORT, data_answer, with_etag
from flowmaps.api.requests import decode_json
from flowmaps.api.routes_maps import Callback, LayergroupId, Selector
from flowmaps.api.state import state_of
from flowmaps.errors import InvalidRequest, UnsupportedFormat
from flowmaps.maps import View, answer_attributes, answer_cluster, answer_static, answer_tile, view_of_bbox
from flowmaps.maps.tiles import parse_tile
from flowmaps.render.formats import JSON

router = APIRouter()
_LAST_SEGMENT = re.compile(r"(?P<y>[^.@]*)(?:@(?P<scale>[^.@]*)x)?\.(?P<format>[^/]+)")
_IMAGE_SEGMENT = re.compile(r"(?P<height>[^.]*)\.(?P<format>[^/]+)")
_DEGREES = re.compile(r"[-+]?[0-9]{1,3}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,2})?")

Zoom = Annotated[str, Path(description="Zoom, from 0.")]
Column = Annotated[str, Path(description="Column of the tile, from the west; columns wrap around the world.")]
LastSegment = Annotated[
    str, Path(description="Row, scale and format: `3.png`, `3@2x.png`, `3.grid.json`, `3.mvt`, `3.geojson`.")
]
ImageSegment = Annotated[str, Path(description="Height in pixels and format: `300.png`, `300.jpg`, `300.webp`.")]
Width = Annotated[str, Path(description="Width in pixels.")]
LayerQuery = Annotated[str | None, Query(description="Layers to show, as in a tile's address; default `all`.")]


# Before the tiles: an id that holds a dot would else read as a row and a format.
@router.api_route(
    "/layergroup/{layergroupid}/{layer}/attributes/{fid:path}",
    methods=["GET", "HEAD"],
    summary="Attributes of a feature",
    operation_id="attributes",
    tags=["features"],
    responses=schemas.attribute_answers(),
)
async def attributes(
    request: Request,
    layergroupid: LayergroupId,
    layer: Annotated[str, Path(description="Index of the layer.")],
    fid: Annotated[str, Path(description="Id of the feature.")],
    callback: Callback = None,
) -> Response:
    """Return the columns that the layer's `attributes` option names, of the one feature with this id."""
    del callback
    body = await answer_attributes(state_of(request).services, layergroupid, layer, fid)
    headers = {"Cache-Control": _cache_control(layergroupid, is_tracked=True)}
    return with_etag(request, data_answer(request, body, headers=headers))


@router.api_route(
    "/layergroup/{layergroupid}/{layer}/{z}/cluster/{cluster_id:path}",
    methods=["GET", "HEAD"],
    summary="Rows of a cluster",
    operation_id="cluster",
    tags=["features"],
    responses=schemas.cluster_answers(),
)
async def cluster(  # noqa: PLR0917  the parts of an address
    request: Request,
    layergroupid: LayergroupId,
    layer: Annotated[str, Path(description="Index of the layer, whose points must be aggregated.")],
    z: Zoom,
    cluster_id: Annotated[str, Path(description="`cartodb_id` of the cluster in a tile of this zoom.")],
    aggregation: Annotated[
        str | None, Query(description="JSON with `columns` to add the rows up by, and `expressions` over them.")
    ] = None,
    callback: Callback = None,
) -> Response:
    """Return the rows that a cluster stands for, without their geometries, or their sums."""
    del callback
    summary = None
    if aggregation is not None:
        try:
            summary = decode_json(aggregation)
        except ValueError as error:
            text = "Invalid aggregation input, should be a a valid JSON"
            raise InvalidRequest(text, member="aggregation") from error
        if summary is None:
            raise InvalidRequest("Invalid aggregation input, should be an object", member="aggregation")
    services = state_of(request).services
    body, is_tracked = await answer_cluster(services, layergroupid, layer, z, cluster_id, summary)
    headers = {"Cache-Control": _cache_control(layergroupid, is_tracked=is_tracked)}
    return with_etag(request, data_answer(request, body, headers=headers))


@router.api_route(
    "/layergroup/static/center/{layergroupid}/{z}/{lat}/{lng}/{width}/{last}",
    methods=["GET", "HEAD"],
    summary="Static map around a centre",
    operation_id="static_center",
    tags=["images"],
    responses=schemas.image_answers(),
)
async def static_center(  # noqa: PLR0917  the parts of an address
    request: Request,
    layergroupid: LayergroupId,
    z: Zoom,
    lat: str,
    lng: str,
    width: Width,
    last: ImageSegment,
    layer: LayerQuery = None,
) -> Response:
    """Return one image of the map around a position in degrees, EPSG:4326."""
    if not re.fullmatch(r"[0-9]{1,4}", z) or int(z) > state_of(request).services.settings.limit.max_zoom:
        raise InvalidRequest(f"Invalid zoom value ({z[:40]})", member="z")
    height, image_format = image_segment(last)
    view = View(_degrees(lng, "lng"), _degrees(lat, "lat"), int(z), pixels(width), height)
    return await static_response(request, layergroupid, view, image_format, layer)


@router.api_route(
    "/layergroup/static/bbox/{layergroupid}/{bbox}/{width}/{last}",
    methods=["GET", "HEAD"],
    summary="Static map of a bounding box",
    operation_id="static_bbox",
    tags=["images"],
    responses=schemas.image_answers(),
)
async def static_bbox(  # noqa: PLR0917  the parts of an address
    request: Request,
    layergroupid: LayergroupId,
    bbox: Annotated[str, Path(description="west,south,east,north in degrees, EPSG:4326.")],
    width: Width,
    last: ImageSegment,
    layer: LayerQuery = None,
) -> Response:
    """Return one image of the map that shows the whole box, as close as that allows."""
    parts = bbox.split(",")
    if len(parts) != 4:
        raise InvalidRequest("the bounding box must be west,south,east,north", member="bbox")
    west, south, east, north = (_degrees(part, "bbox") for part in parts)
    height, image_format = image_segment(last)
    view = view_of_bbox((west, south, east, north), pixels(width), height)
    return await static_response(request, layergroupid, view, image_format, layer)


async def static_response(
    request: Request, layergroupid: str, view: View, image_format: str, layer: str | None
) -> Response:
    request.state.tile_format = "static"
    image = await answer_static(state_of(request).services, layergroupid, view, image_format, selector=layer)
    headers = {"Cache-Control": CACHE_SHORT}
    return with_etag(request, Response(image.body, 200, headers, image.content_type))


def _degrees(text: str, member: str) -> float:
    if not _DEGREES.fullmatch(text.strip()) or not math.isfinite(float(text)) or abs(float(text)) > 1000:
        raise InvalidRequest(f"No coords object: {text[:40]} is no number of degrees", member=member)
    return float(text)


def pixels(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidRequest(f"Image dimensions must be whole numbers, not {text[:40]}", member="size")
    return int(text)


def image_segment(last: str) -> tuple[int, str]:
    match = _IMAGE_SEGMENT.fullmatch(last)
    if match is None:
        raise UnsupportedFormat("the address ends without a format", not_found=True)
    return pixels(match["height"]), match["format"]


@router.api_route(
    "/layergroup/{layergroupid}/{z}/{x}/{last}",
    methods=["GET", "HEAD"],
    summary="Tile of a map",
    operation_id="tile",
    tags=["tiles"],
    responses=schemas.tile_answers(),
)
async def tile(  # noqa: PLR0917  the parts of an address
    request: Request, layergroupid: LayergroupId, z: Zoom, x: Column, last: LastSegment, callback: Callback = None
) -> Response:
    """Return a tile of all mapnik layers."""
    del callback
    return await tile_response(request, layergroupid, None, z, x, last)


@router.api_route(
    "/layergroup/{layergroupid}/{layer}/{z}/{x}/{last}",
    methods=["GET", "HEAD"],
    summary="Tile of some layers",
    operation_id="layer_tile",
    tags=["tiles"],
    responses=schemas.tile_answers(),
)
async def layer_tile(  # noqa: PLR0917  the parts of an address
    request: Request,
    layergroupid: LayergroupId,
    layer: Selector,
    z: Zoom,
    x: Column,
    last: LastSegment,
    callback: Callback = None,
) -> Response:
    """Return a tile of the selected layers."""
    del callback
    return await tile_response(request, layergroupid, layer, z, x, last)


async def tile_response(  # noqa: PLR0917  the parts of an address
    request: Request, layergroupid: str, selector: str | None, z: str, x: str, last: str
) -> Response:
    match = _LAST_SEGMENT.fullmatch(last)
    if match is None:
        raise UnsupportedFormat("the address ends without a format", not_found=True)
    services = state_of(request).services
    request.state.tile_format = match["format"]
    address = parse_tile(z, x, match["y"], max_zoom=services.settings.limit.max_zoom)
    answered, is_tracked = await answer_tile(
        services, layergroupid, selector, address, match["format"], scale=_scale(match["scale"])
    )
    headers = {"Cache-Control": _cache_control(layergroupid, is_tracked=is_tracked)}
    if answered.is_empty is not None:
        headers["x-tilelive-contains-data"] = "false" if answered.is_empty else "true"
    if answered.is_empty:
        return Response(status_code=204, headers=headers)
    if answered.content_type == JSON:
        return with_etag(request, data_answer(request, answered.body, headers=headers))
    return with_etag(request, Response(answered.body, 200, headers, answered.content_type))


def _cache_control(layergroupid: str, *, is_tracked: bool) -> str:
    """Return how long a tile may be kept: long only where new data give the map a new address."""
    return CACHE_RENEWED if ":" in layergroupid and is_tracked else CACHE_SHORT


def _scale(text: str | None) -> int:
    if not text:
        return 1
    if not text.isascii() or not text.isdigit() or len(text) > 2:
        raise UnsupportedFormat("Tile with specified resolution not found", not_found=True)
    return int(text)
