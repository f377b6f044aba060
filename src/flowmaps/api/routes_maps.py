"""Routes of whole maps: creation, description, TileJSON, deletion."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from flowmaps.api import schemas_http as schemas
from flowmaps.api.addresses import public_base
from flowmaps.api.answers import json_answer, with_etag
from flowmaps.api.lzma_query import config_parameter
from flowmaps.api.requests import decode_json, parse_aggregation_param, read_json
from flowmaps.api.state import state_of
from flowmaps.errors import InvalidRequest, RequestTooLarge
from flowmaps.maps import answer_tilejson, create_map, described_map, revoke_map, with_addresses
from flowmaps.maps.tiles import split_layergroupid

router = APIRouter()
NO_STORE = {"Cache-Control": "no-store"}
TOPIC = "Kafka topic, which is the tenant."

LayergroupId = Annotated[str, Path(description="Token, or token:time, as creation returned it.")]
Selector = Annotated[str, Path(description="`all`, a type, numbers or ids of layers, with commas between them.")]
Callback = Annotated[str | None, Query(description="Name of a function that the answer calls (JSONP).")]
Lzma = Annotated[
    str | None, Query(description='Instead of `config`: Base64 of LZMA of `{"config": "…"}`, as carto.js sends it.')
]
Aggregation = Annotated[str | None, Query(description="`false`: points are never aggregated.")]
Content = Annotated[
    Literal["raster", "vector"] | None, Query(description="Which tiles to describe; default: images where there are.")
]


@router.post(
    "/create-map",
    summary="Create a map",
    operation_id="create_map",
    tags=["maps"],
    responses=schemas.answers(200, 400, 401, 403, 404, 413, 429, 503),
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
    return await _created(request, body.get("topic"), body.get("map"), aggregation)


@router.get(
    "/create-map",
    summary="Create a map by an address",
    operation_id="create_map_by_address",
    tags=["maps"],
    responses=schemas.answers(200, 400, 401, 403, 404, 413, 429, 503),
    openapi_extra=schemas.SECURED,
)
async def create_by_address(  # noqa: PLR0917
    request: Request,
    topic: Annotated[str | None, Query(description=TOPIC)] = None,
    config: Annotated[str | None, Query(description="MapConfig as JSON.")] = None,
    lzma: Lzma = None,
    callback: Callback = None,
    aggregation: Aggregation = None,
) -> Response:
    """Create a map whose MapConfig is in the address; authorised like any other creation."""
    del callback
    state = state_of(request)
    await state.verifier.verify(request.headers.get("authorization"))
    most_bytes = state.services.settings.limit.body_bytes
    text = config_parameter(config, lzma, most_bytes=most_bytes)
    if text is None:
        raise InvalidRequest('layergroup GET needs a "config" parameter', member="config")
    if len(text.encode("utf-8", "replace")) > most_bytes:
        raise RequestTooLarge("the config is larger than a body may be")
    try:
        document = decode_json(text)
    except ValueError as error:
        raise InvalidRequest(f"SyntaxError: the config is not JSON: {error}", member="config") from error
    return await _created(request, topic, document, aggregation)


async def _created(request: Request, topic: object, document: object, aggregation: str | None) -> Response:
    services = state_of(request).services
    created = await create_map(services, topic, document, aggregation=parse_aggregation_param(aggregation))
    body = with_addresses(public_base(request, services.settings.serve), created)
    return json_answer(request, body, headers=NO_STORE)


@router.api_route(
    "/layergroup/{layergroupid}",
    methods=["GET", "HEAD"],
    summary="Describe a map",
    operation_id="describe_map",
    tags=["maps"],
    responses=schemas.answers(200, 400, 403, 404, 503),
)
async def describe(request: Request, layergroupid: LayergroupId, callback: Callback = None) -> Response:
    """Return what creation answered, with the time of the last change and the bounds of today."""
    del callback
    services = state_of(request).services
    token, _ = split_layergroupid(layergroupid)
    described = await described_map(services, token)
    body = with_addresses(public_base(request, services.settings.serve), described)
    return with_etag(request, json_answer(request, body, headers={"Cache-Control": "no-cache"}))


@router.delete(
    "/layergroup/{layergroupid}",
    summary="Revoke a map",
    operation_id="revoke_map",
    tags=["maps"],
    status_code=204,
    responses={204: {"description": "The map is gone."}, **schemas.answers(400, 401, 403, 503)},
    openapi_extra=schemas.SECURED,
)
async def revoke(request: Request, layergroupid: LayergroupId) -> Response:
    """Take a map back; its token is unknown from then on. Authorised like creation."""
    state = state_of(request)
    await state.verifier.verify(request.headers.get("authorization"))
    await revoke_map(state.services, layergroupid)
    return Response(status_code=204, headers=NO_STORE)


@router.api_route(
    "/layergroup/{layergroupid}/tilejson.json",
    methods=["GET", "HEAD"],
    summary="TileJSON of a map",
    operation_id="map_tilejson",
    tags=["maps"],
    responses=schemas.tilejson_answers(),
)
async def map_tilejson(
    request: Request, layergroupid: LayergroupId, content: Content = None, callback: Callback = None
) -> Response:
    """Return where the tiles of the map are, for clients that read TileJSON."""
    del callback
    return await _tilejson(request, layergroupid, None, content)


@router.api_route(
    "/layergroup/{layergroupid}/{layer}/tilejson.json",
    methods=["GET", "HEAD"],
    summary="TileJSON of some layers",
    operation_id="layer_tilejson",
    tags=["maps"],
    responses=schemas.tilejson_answers(),
)
async def layer_tilejson(
    request: Request, layergroupid: LayergroupId, layer: Selector, content: Content = None, callback: Callback = None
) -> Response:
    """Return where the tiles of the selected layers are."""
    del callback
    return await _tilejson(request, layergroupid, layer, content)


async def _tilejson(
    request: Request, layergroupid: str, selector: str | None, content: Literal["raster", "vector"] | None
) -> Response:
    services = state_of(request).services
    base = public_base(request, services.settings.serve)
    document = await answer_tilejson(services, layergroupid, base, selector, content)
    return with_etag(request, json_answer(request, document, headers={"Cache-Control": "no-cache"}))
