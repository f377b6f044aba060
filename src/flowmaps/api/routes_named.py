"""Routes of named maps: templates, for callers with the role; their maps, for whom a template lets in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from flowmaps.api import schemas_http as schemas
from flowmaps.api.addresses import public_base
from flowmaps.api.answers import CACHE_SHORT, json_answer
from flowmaps.api.lzma_query import config_parameter
from flowmaps.api.requests import decode_json, parse_aggregation_param, read_json
from flowmaps.api.routes_maps import NO_STORE, TOPIC, Aggregation, Callback, Lzma, Selector
from flowmaps.api.routes_tiles import (
    Column,
    ImageSegment,
    LastSegment,
    Width,
    Zoom,
    image_segment,
    pixels,
    static_response,
    tile_response,
)
from flowmaps.api.state import State, state_of
from flowmaps.errors import InvalidRequest, RequestTooLarge
from flowmaps.maps import with_addresses
from flowmaps.maps.named import (
    add_named_map,
    instance_id,
    instantiate_named_map,
    named_map,
    named_maps,
    remove_named_map,
    replace_named_map,
    view_of_named_map,
)
from flowmaps.maps.template import MOST_TOKENS_SHOWN

router = APIRouter()

Topic = Annotated[str, Path(description=TOPIC)]
Template = Annotated[str, Path(description="Name of the template; `@name` and `user@name` are the same.")]
AuthToken = Annotated[list[str] | None, Query(description="A token of the template's, where it asks for one.")]
Config = Annotated[str | None, Query(description="Parameters of the template as JSON.")]


def _name(template: str) -> str:
    """Return the name that an address gives: the first servers wrote it behind the user's."""
    before, at, after = template.partition("@")
    return after.partition("@")[0] if at else before


async def _administrated(request: Request) -> State:
    """Return the state for a caller who may create maps."""
    state = state_of(request)
    await state.verifier.verify(request.headers.get("authorization"))
    return state


@router.get(
    "/named/{topic}",
    summary="Names of a tenant's named maps",
    operation_id="list_named_maps",
    tags=["named maps"],
    responses=schemas.named_answers("list", 400, 401, 403, 503),
    openapi_extra=schemas.SECURED,
)
async def list_all(request: Request, topic: Topic, callback: Callback = None) -> Response:
    """Return the names of the tenant's templates."""
    del callback  # read by the answer
    state = await _administrated(request)
    return json_answer(request, {"template_ids": await named_maps(state.services, topic)}, headers=NO_STORE)


@router.post(
    "/named/{topic}",
    summary="Create a named map",
    operation_id="create_named_map",
    tags=["named maps"],
    responses=schemas.named_answers("id", 400, 401, 403, 404, 409, 413, 503),
    openapi_extra=schemas.SECURED | schemas.TEMPLATE_BODY,
)
async def create(request: Request, topic: Topic, callback: Callback = None) -> Response:
    """Check a template and store it under the name that it says."""
    del callback
    state = await _administrated(request)
    body = await read_json(request, most_bytes=state.services.settings.limit.body_bytes)
    name = await add_named_map(state.services, topic, body)
    return json_answer(request, {"template_id": name}, headers=NO_STORE)


@router.get(
    "/named/{topic}/{template}",
    summary="Template of a named map",
    operation_id="get_named_map",
    tags=["named maps"],
    responses=schemas.named_answers("template", 400, 401, 403, 404, 503),
    openapi_extra=schemas.SECURED,
)
async def get(request: Request, topic: Topic, template: Template, callback: Callback = None) -> Response:
    """Return a template as it is stored, with its tokens."""
    del callback
    state = await _administrated(request)
    stored = await named_map(state.services, topic, _name(template))
    return json_answer(request, {"template": stored.document}, headers=NO_STORE)


@router.put(
    "/named/{topic}/{template}",
    summary="Replace a named map",
    operation_id="replace_named_map",
    tags=["named maps"],
    responses=schemas.named_answers("id", 400, 401, 403, 404, 413, 503),
    openapi_extra=schemas.SECURED | schemas.TEMPLATE_BODY,
)
async def replace(request: Request, topic: Topic, template: Template, callback: Callback = None) -> Response:
    """Store another template under the same name; instances of the one before end."""
    del callback
    state = await _administrated(request)
    body = await read_json(request, most_bytes=state.services.settings.limit.body_bytes)
    name = await replace_named_map(state.services, topic, _name(template), body)
    return json_answer(request, {"template_id": name}, headers=NO_STORE)


@router.delete(
    "/named/{topic}/{template}",
    summary="Delete a named map",
    operation_id="delete_named_map",
    tags=["named maps"],
    status_code=204,
    responses=schemas.answers(400, 401, 403, 404, 503),
    openapi_extra=schemas.SECURED,
)
async def delete(request: Request, topic: Topic, template: Template) -> Response:
    """Delete a template; its instances end with it."""
    state = await _administrated(request)
    await remove_named_map(state.services, topic, _name(template))
    return Response(status_code=204, headers=NO_STORE)


@router.post(
    "/named/{topic}/{template}",
    summary="Make the map of a named map",
    operation_id="instantiate_named_map",
    tags=["named maps"],
    responses=schemas.answers(200, 400, 403, 404, 413, 429, 503),
    openapi_extra=schemas.PARAMETERS_BODY,
)
async def instantiate(  # noqa: PLR0917
    request: Request,
    topic: Topic,
    template: Template,
    auth_token: AuthToken = None,
    aggregation: Aggregation = None,
    callback: Callback = None,
) -> Response:
    """Create the map of a template with the body's parameters in the places of its placeholders."""
    del auth_token, callback
    params: Any = None
    if request.headers.get("content-type") or request.headers.get("content-length", "0") != "0":
        params = await read_json(request, most_bytes=state_of(request).services.settings.limit.template_bytes)
    return await _instance(request, topic, template, params, aggregation)


@router.get(
    "/named/{topic}/{template}/jsonp",
    summary="Make the map of a named map by an address",
    operation_id="instantiate_named_map_by_address",
    tags=["named maps"],
    responses=schemas.answers(200, 400, 403, 404, 413, 429, 503),
)
async def jsonp(  # noqa: PLR0917
    request: Request,
    topic: Topic,
    template: Template,
    callback: Callback = None,
    config: Config = None,
    lzma: Lzma = None,
    auth_token: AuthToken = None,
    aggregation: Aggregation = None,
) -> Response:
    """Create the map of a template for a page that can only load scripts."""
    del auth_token
    if not callback:
        raise InvalidRequest("callback parameter should be present and be a function name", member="callback")
    most_bytes = state_of(request).services.settings.limit.template_bytes
    text = config_parameter(config, lzma, most_bytes=most_bytes)
    return await _instance(request, topic, template, _parameters(request, text), aggregation)


@router.api_route(
    "/named/{topic}/{template}/static/{width}/{last}",
    methods=["GET", "HEAD"],
    summary="Static map of a named map",
    operation_id="named_static",
    tags=["images"],
    responses=schemas.image_answers() | schemas.answers(413, 429),
)
async def static(  # noqa: PLR0917  the parts of an address
    request: Request,
    topic: Topic,
    template: Template,
    width: Width,
    last: ImageSegment,
    config: Config = None,
    auth_token: AuthToken = None,
) -> Response:
    """Return one image of what the template's `view` shows, or of all the data."""
    del auth_token
    services = state_of(request).services
    height, image_format = image_segment(last)
    layergroupid = await instance_id(services, topic, _name(template), _parameters(request, config), _tokens(request))
    view, selector = await view_of_named_map(services, topic, _name(template), layergroupid, pixels(width), height)
    return await static_response(request, layergroupid, view, image_format, selector)


@router.api_route(
    "/named/{topic}/{template}/{layer}/{z}/{x}/{last}",
    methods=["GET", "HEAD"],
    summary="Tile of a named map",
    operation_id="named_tile",
    tags=["tiles"],
    responses=schemas.tile_answers() | schemas.answers(413, 429),
)
async def tile(  # noqa: PLR0917  the parts of an address
    request: Request,
    topic: Topic,
    template: Template,
    layer: Selector,
    z: Zoom,
    x: Column,
    last: LastSegment,
    config: Config = None,
    auth_token: AuthToken = None,
    callback: Callback = None,
) -> Response:
    """Return a tile of the template's map, without asking for the map first."""
    del auth_token, callback
    services = state_of(request).services
    layergroupid = await instance_id(services, topic, _name(template), _parameters(request, config), _tokens(request))
    answer = await tile_response(request, layergroupid, layer, z, x, last)
    # This address stays when the data change.
    answer.headers["Cache-Control"] = CACHE_SHORT
    return answer


async def _instance(request: Request, topic: str, template: str, params: object, aggregation: str | None) -> Response:
    services = state_of(request).services
    created = await instantiate_named_map(
        services,
        topic,
        _name(template),
        params,
        tokens=_tokens(request),
        aggregation=parse_aggregation_param(aggregation),
    )
    body = with_addresses(public_base(request, services.settings.serve), created)
    return json_answer(request, body, headers=NO_STORE)


def _tokens(request: Request) -> list[str]:
    """Return the tokens that the address brings; several are written ``auth_token=a&auth_token=b`` or with ``[]``."""
    given = [*request.query_params.getlist("auth_token"), *request.query_params.getlist("auth_token[]")]
    if len(given) > MOST_TOKENS_SHOWN:
        raise InvalidRequest(f"at most {MOST_TOKENS_SHOWN} tokens can be given", member="auth_token")
    return given


def _parameters(request: Request, config: str | None) -> Mapping[str, Any] | None:
    if not config:
        return None
    limit = state_of(request).services.settings.limit.template_bytes
    if len(config.encode("utf-8", "replace")) > limit:
        raise RequestTooLarge(f"the config is larger than {limit} bytes")
    try:
        params = decode_json(config)
    except ValueError as error:
        raise InvalidRequest("Invalid config parameter, should be a valid JSON", member="config") from error
    if not isinstance(params, dict):
        raise InvalidRequest("Invalid config parameter, should be an object", member="config")
    return params
