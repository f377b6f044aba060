"""Routes of maps: creation, description and tiles."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from flowmaps.api import schemas_http as schemas
from flowmaps.api.answers import CACHE_RENEWED, CACHE_SHORT, data_answer, json_answer, with_etag
from flowmaps.api.requests import parse_aggregation_param, read_json
from flowmaps.api.state import state_of
from flowmaps.errors import InvalidRequest, UnsupportedFormat
from flowmaps.maps import answer_tile, create_map, describe_map
from flowmaps.maps.tiles import JSON, parse_tile, split_layergroupid

router = APIRouter()
_LAST_SEGMENT = re.compile(r"(?P<y>[^.@]*)(?:@(?P<scale>[^.@]*)x)?\.(?P<format>[^/]+)")

LayergroupId = Annotated[str, Path(description="Token, or token:time, as creation returned it.")]
Callback = Annotated[str | None, Query(description="Name of a function that the answer calls (JSONP).")]
Aggregation = Annotated[str | None, Query(description="`false`: points are never aggregated.")]
LastSegment = Annotated[str, Path(description="Row, scale and format: `3.png`, `3@2x.png`, `3.grid.json`, `3.mvt`.")]


@router.post(
    "/create-map",
    summary="Create a map",
    tags=["maps"],
    responses=schemas.answers(200, 400, 401, 403, 413, 429, 503),
    openapi_extra=schemas.CREATE_MAP,
)
async def create(request: Request, callback: Callback = None, aggregation: Aggregation = None) -> Response:
    """Check a MapConfig against the tenant's data and store it; the same map gets the same token."""
    del callback  # read by the answer
    state = state_of(request)
    await state.verifier.verify(request.headers.get("authorization"))
    body = await read_json(request, most_bytes=state.services.settings.limit.body_bytes)
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be an object with topic and map", member="body")
    created = await create_map(
        state.services, body.get("topic"), body.get("map"), aggregation=parse_aggregation_param(aggregation)
    )
    return json_answer(request, created.document, headers={"Cache-Control": "no-store"})


@router.api_route(
    "/layergroup/{layergroupid}",
    methods=["GET", "HEAD"],
    summary="Describe a map",
    tags=["maps"],
    responses=schemas.answers(200, 400, 503),
)
async def describe(request: Request, layergroupid: LayergroupId, callback: Callback = None) -> Response:
    """Return what creation answered, with the time of the last change and the bounds of today."""
    del callback
    token, _ = split_layergroupid(layergroupid)
    described = await describe_map(state_of(request).services, token)
    return json_answer(request, described.document, headers={"Cache-Control": "no-cache"})


@router.api_route(
    "/layergroup/{layergroupid}/{z}/{x}/{last}",
    methods=["GET", "HEAD"],
    summary="Tile of a map",
    tags=["tiles"],
    responses=schemas.tile_answers(),
)
async def tile(  # noqa: PLR0917  the parts of an address
    request: Request, layergroupid: LayergroupId, z: str, x: str, last: LastSegment, callback: Callback = None
) -> Response:
    """Return a tile of all mapnik layers."""
    del callback
    return await _tile(request, layergroupid, None, z, x, last)


@router.api_route(
    "/layergroup/{layergroupid}/{layer}/{z}/{x}/{last}",
    methods=["GET", "HEAD"],
    summary="Tile of some layers",
    tags=["tiles"],
    responses=schemas.tile_answers(),
)
async def layer_tile(  # noqa: PLR0917  the parts of an address
    request: Request,
    layergroupid: LayergroupId,
    layer: Annotated[str, Path(description="`all`, a type, numbers or ids of layers, with commas between them.")],
    z: str,
    x: str,
    last: LastSegment,
    callback: Callback = None,
) -> Response:
    """Return a tile of the selected layers."""
    del callback
    return await _tile(request, layergroupid, layer, z, x, last)


async def _tile(  # noqa: PLR0917  the parts of an address
    request: Request, layergroupid: str, selector: str | None, z: str, x: str, last: str
) -> Response:
    match = _LAST_SEGMENT.fullmatch(last)
    if match is None:
        raise UnsupportedFormat("the address ends without a format", not_found=True)
    services = state_of(request).services
    request.state.tile_format = match["format"]
    address = parse_tile(z, x, match["y"], max_zoom=services.settings.limit.max_zoom)
    answered = await answer_tile(
        services, layergroupid, selector, address, match["format"], scale=_scale(match["scale"])
    )
    headers = {"Cache-Control": CACHE_RENEWED if ":" in layergroupid else CACHE_SHORT}
    if answered.is_empty is not None:
        headers["x-tilelive-contains-data"] = "false" if answered.is_empty else "true"
    if answered.is_empty:
        return Response(status_code=204, headers=headers)
    if answered.content_type == JSON:
        return with_etag(request, data_answer(request, answered.body, headers=headers))
    return with_etag(request, Response(answered.body, 200, headers, answered.content_type))


def _scale(text: str | None) -> int:
    if not text:
        return 1
    if not text.isascii() or not text.isdigit() or len(text) > 2:
        raise UnsupportedFormat("Tile with specified resolution not found", not_found=True)
    return int(text)
