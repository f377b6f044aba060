"""Replace the named layers of a MapConfig by the layers of their named maps, for those whom these let in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowmaps.errors import Forbidden, InvalidMapConfig, InvalidRequest
from flowmaps.mapconfig import Origin
from flowmaps.maps.services import Services
from flowmaps.maps.template import MOST_TOKENS_SHOWN, NAMED, instantiate, is_name, lets_in, template_of
from flowmaps.mapstore import NamedMap, UnknownNamedMap


@dataclass(frozen=True, slots=True)
class Expanded:
    """A MapConfig without named layers, where its layers came from, and the named maps that it is made of."""

    document: object
    origins: tuple[Origin, ...] | None = None
    templates: tuple[NamedMap, ...] = ()


@dataclass(frozen=True, slots=True)
class _NamedLayer:
    """The options of one named layer, checked; *number* is its place for the caller."""

    number: int
    name: str
    config: Mapping[str, Any]
    tokens: tuple[str, ...]


async def expanded(services: Services, topic: str, document: object) -> Expanded:
    """Return *document* with each named layer replaced by the layers of that named map of the tenant.

    What else the templates say of their maps (buffer sizes, zooms) is not looked at. A document that is no map is left
    to the parser. Raise `InvalidMapConfig` naming the layer, `Forbidden`, or a `TemporaryError`.
    """
    layers = document.get("layers") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or not isinstance(layers, list) or not any(map(_is_named, layers)):
        return Expanded(document)
    most = services.settings.limit.layers
    if len(layers) > most:
        # No template is read for a map that can only be refused.
        return Expanded(document)
    known: dict[str, NamedMap] = {}
    found: list[Any] = []
    origins: list[Origin] = []
    for number, raw in enumerate(layers):
        if not _is_named(raw):
            found.append(raw)
            origins.append(Origin(number))
            continue
        named = _read(number, raw)
        if named.name not in known:
            known[named.name] = await _template(services, topic, named)
        inner = await asyncio.to_thread(_layers_of, known[named.name], named)
        found += inner
        origins += [Origin(number, is_named=True)] * len(inner)
        if len(found) > most:
            text = f"The map has more than {most} layers with those of its named maps, which is the limit"
            raise InvalidMapConfig(text, member="layers")
    return Expanded({**document, "layers": found}, tuple(origins), tuple(known.values()))


def _is_named(raw: object) -> bool:
    return isinstance(raw, Mapping) and raw.get("type") == NAMED


def _read(number: int, raw: Mapping[str, Any]) -> _NamedLayer:
    options = raw.get("options")
    if not isinstance(options, Mapping):
        text = f"Missing options from layer {number} of layergroup config"
        raise InvalidMapConfig(text, member=f"layers[{number}].options", layer=number)
    name, config, tokens = options.get("name"), options.get("config"), options.get("auth_tokens")
    if not name:
        raise _problem(number, "Missing Named Map `name` in layer options", "name")
    if not isinstance(name, str):
        raise _problem(number, "The name of a named map must be text", "name")
    if config is not None and not isinstance(config, Mapping):
        raise _problem(number, "The config of a named layer must be an object", "config")
    shown = [tokens] if isinstance(tokens, str) else tokens or []
    if not isinstance(shown, list) or not all(isinstance(token, str) for token in shown):
        raise _problem(number, "The auth_tokens of a named layer must be a list of texts", "auth_tokens")
    if len(shown) > MOST_TOKENS_SHOWN:
        raise _problem(number, f"at most {MOST_TOKENS_SHOWN} tokens can be given", "auth_tokens")
    return _NamedLayer(number, name, config or {}, tuple(shown))


async def _template(services: Services, topic: str, named: _NamedLayer) -> NamedMap:
    text = f"Template '{named.name[:128]}' of topic '{topic[:249]}' not found"
    if not is_name(named.name):
        raise _problem(named.number, text, "name")
    try:
        return await services.named.load(topic, named.name)
    except UnknownNamedMap as error:
        # The map is wrong, and not its address.
        raise _problem(named.number, text, "name") from error


def _layers_of(stored: NamedMap, named: _NamedLayer) -> list[Any]:
    template = template_of(stored.document)
    if not lets_in(template, named.tokens):
        text = f"Unauthorized '{named.name}' template instantiation"
        raise Forbidden(text, member=f"layers[{named.number}].options.auth_tokens")
    try:
        return list(instantiate(template, named.config)["layers"])
    except InvalidRequest as error:
        path = (error.member or "").partition("params")[2]
        raise _problem(named.number, error.message, f"config{path}") from error


def _problem(number: int, text: str, option: str) -> InvalidMapConfig:
    return InvalidMapConfig(
        text, member=f"layers[{number}].options.{option}", layer=number, layer_type=NAMED, kind="layer"
    )
