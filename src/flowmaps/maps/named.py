"""Named maps: store templates, and make maps of them for whoever their template lets in."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from flowmaps.errors import Forbidden, InvalidRequest, UnknownMap
from flowmaps.mapconfig import MapConfig
from flowmaps.mapconfig.signature import canonical
from flowmaps.maps.creation import CreatedMap, create_map, described_map
from flowmaps.maps.preparation import check_map
from flowmaps.maps.services import LOADED_SECONDS, Services
from flowmaps.maps.static_maps import View, view_of_bbox
from flowmaps.maps.template import Template, instantiate, is_name, lets_in, parse_template, template_of
from flowmaps.mapstore import NamedMap
from flowmaps.mapstore.named_maps import unknown

REMEMBERED_INSTANCES = 1024


async def add_named_map(services: Services, topic: str, raw: object) -> str:
    """Store a new named map of the tenant and return its name.

    Raise `InvalidRequest`, `InvalidMapConfig` and its kin, `UnknownTenant`, `TooManyNamedMaps` or a `TemporaryError`.
    """
    template = await _checked(services, topic, raw)
    await services.named.add(topic, template.name, template.document_text())
    return template.name


async def replace_named_map(services: Services, topic: str, name: str, raw: object) -> str:
    """Store another template under a name and return it; where it differs, instances of the old one end."""
    template = await _checked(services, topic, raw)
    if template.name != name:
        text = f"Cannot update name of a map template ('{name[:128]}' != '{template.name}')"
        raise InvalidRequest(text, member="name")
    await services.named.replace(topic, name, template.document_text())
    services.forget_instances(topic, name)
    return name


async def _checked(services: Services, topic: str, raw: object) -> Template:
    await services.tenants.tenant(topic)
    template = parse_template(raw, limits=services.settings.limit)
    # With its defaults it must be a map, so that an error is its author's and not that of all who use it.
    document = instantiate(template, {})
    await asyncio.to_thread(check_map, document, limits=services.settings.limit, resources=services.resources)
    return template


async def remove_named_map(services: Services, topic: str, name: str) -> None:
    """Delete a named map; its instances end with it. Raise `UnknownNamedMap`."""
    await services.tenants.tenant(topic)
    _check_name(topic, name)
    await services.named.remove(topic, name)
    services.forget_instances(topic, name)


async def named_maps(services: Services, topic: str) -> list[str]:
    await services.tenants.tenant(topic)
    return await services.named.names(topic)


async def named_map(services: Services, topic: str, name: str) -> NamedMap:
    """Return a named map with its template; raise `UnknownNamedMap`."""
    await services.tenants.tenant(topic)
    _check_name(topic, name)
    return await services.named.load(topic, name)


def _check_name(topic: str, name: str) -> None:
    """Raise `UnknownNamedMap` for what is no name, and so nothing to ask a database for."""
    if not is_name(name):
        raise unknown(topic, name)


async def instantiate_named_map(
    services: Services,
    topic: str,
    name: str,
    params: object,
    *,
    tokens: Sequence[str] = (),
    aggregation: bool | None = None,
) -> CreatedMap:
    """Create the map of a template with *params* put in; *tokens* are what the caller shows to be let in.

    Raise `UnknownNamedMap`, `Forbidden`, `InvalidRequest`, and what `create_map` raises.
    """
    stored = await named_map(services, topic, name)
    template = template_of(stored.document)
    _check_tokens(template, tokens)
    document = instantiate(template, params)
    key = _key(stored, document, aggregation)
    if (layergroupid := await _known_instance(services, key)) is not None:
        return await described_map(services, layergroupid.partition(":")[0])
    created = await create_map(services, topic, document, aggregation=aggregation, instance_of=stored)
    _remember(services, key, created.layergroupid)
    return created


def _check_tokens(template: Template, tokens: Sequence[str]) -> None:
    """Raise `Forbidden` where the template asks for a token and *tokens* has none of its own."""
    if not lets_in(template, tokens):
        raise Forbidden("Unauthorized template instantiation")


async def instance_id(services: Services, topic: str, name: str, params: object, tokens: Sequence[str]) -> str:
    """Return the layergroupid of the template's map with *params*, made anew only where it must be.

    Raise what `instantiate_named_map` raises.
    """
    stored = await named_map(services, topic, name)
    template = template_of(stored.document)
    _check_tokens(template, tokens)
    known = await _known_instance(services, _key(stored, instantiate(template, params), None))
    if known is not None:
        return known
    return (await instantiate_named_map(services, topic, name, params, tokens=tokens)).layergroupid


async def _known_instance(services: Services, key: str) -> str | None:
    """Return the layergroupid of a map that was made a moment ago and is still there."""
    layergroupid, until = services.instances.get(key, ("", 0.0))
    if services.clock() >= until:
        return None
    try:
        await services.load(layergroupid.partition(":")[0])
    except UnknownMap:
        return None
    return layergroupid


def _remember(services: Services, key: str, layergroupid: str) -> None:
    if len(services.instances) >= REMEMBERED_INSTANCES:
        services.instances.clear()
    services.instances[key] = (layergroupid, services.clock() + LOADED_SECONDS)


def _key(stored: NamedMap, document: Mapping[str, Any], aggregation: bool | None) -> str:
    parts = {"of": [stored.topic, stored.name, stored.revision], "document": document, "aggregation": aggregation}
    return hashlib.blake2b(canonical(parts), digest_size=16).hexdigest()


async def view_of_named_map(  # noqa: PLR0917
    services: Services, topic: str, name: str, layergroupid: str, width: int, height: int
) -> tuple[View, str | None]:
    """Return what a static map of a template shows, and the selector of its layers.

    Its view's centre and zoom, else its bounds, else where the data lie, else the world.
    """
    stored = await named_map(services, topic, name)
    view = stored.document.get("view", {})
    described = await described_map(services, layergroupid.partition(":")[0], with_statistics=False)
    selector = selected_layers(view.get("preview_layers"), described.prepared.config)
    if placed := _centre(view):
        longitude, latitude, zoom = placed
        return View(longitude, latitude, min(zoom, services.settings.limit.max_zoom), width, height), selector
    west, south, east, north = _bounds(view) or described.bounds or (-180, -85, 180, 85)
    return view_of_bbox((west, south, east, north), width, height), selector


def selected_layers(shown: object, config: MapConfig) -> str | None:
    """Return the selector of the layers that are not turned off by index or id."""
    if not isinstance(shown, Mapping):
        return None
    off = {str(name) for name, is_shown in shown.items() if is_shown is False}
    kept = [str(layer.index) for layer in config.layers if str(layer.index) not in off and layer.id not in off]
    if not kept:
        raise InvalidRequest("The view of the template shows no layer", member="view.preview_layers")
    return ",".join(kept) if len(kept) < len(config.layers) else None


def _centre(view: Mapping[str, Any]) -> tuple[float, float, int] | None:
    centre, zoom = view.get("center"), _degrees(view.get("zoom"))
    if not isinstance(centre, Mapping) or zoom is None:
        return None
    longitude, latitude = _degrees(centre.get("lng")), _degrees(centre.get("lat"))
    return None if longitude is None or latitude is None else (longitude, latitude, max(0, int(zoom)))


def _bounds(view: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    bounds = view.get("bounds")
    if not isinstance(bounds, Mapping):
        return None
    west, south, east, north = (_degrees(bounds.get(side)) for side in ("west", "south", "east", "north"))
    if west is None or south is None or east is None or north is None:
        return None
    return west, south, east, north


def _degrees(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1000
    return float(value) if is_number and isinstance(value, int | float) else None
