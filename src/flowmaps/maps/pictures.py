"""Have the pictures ready that the styles of some layers name by address, or say which layer's cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from flowmaps.cartocss import LayerStyle
from flowmaps.errors import FlowMapsError, InvalidCartoCSS, RemoteRefused, RemoteUnavailable
from flowmaps.mapconfig import Layer
from flowmaps.maps.preparation import PreparedMap, at_layer, position_in_style
from flowmaps.render import Picture, Pictures


async def fetch_pictures(pictures: Pictures, prepared: PreparedMap, layers: Sequence[Layer]) -> Mapping[str, Picture]:
    """Return the picture of each address; whoever holds them keeps their files.

    Raise `InvalidCartoCSS` at the place in the style where what an address gives is no picture, a `TemporaryError`
    where it gives nothing just now.
    """
    named: dict[str, tuple[Layer, LayerStyle]] = {}
    for layer in layers:
        style = prepared.layers[layer.index].style
        if style is not None:
            for address in style.addresses:
                named.setdefault(address, (layer, style))
    if not named:
        return {}
    # All come to an end first, so that it is always the first one of the map that is told.
    found = await asyncio.gather(*(pictures.get(address) for address in named), return_exceptions=True)
    ready: dict[str, Picture] = {}
    for (address, (layer, style)), result in zip(named.items(), found, strict=True):
        if isinstance(result, RemoteUnavailable):
            raise _undownloadable(result, address, layer, style) from result
        if isinstance(result, BaseException):
            raise result
        ready[address] = result
    return ready


def _undownloadable(error: RemoteUnavailable, address: str, layer: Layer, style: LayerStyle) -> FlowMapsError:
    text = f"Unable to download '{address}' for 'style{layer.index}' ({error.reason})"
    if not isinstance(error, RemoteRefused):
        return type(error)(text, reason=error.reason, retry_after_seconds=error.retry_after_seconds)
    refused = InvalidCartoCSS(text, kind="layer", subtype="style")
    refused.position = position_in_style(style.addresses[address])
    return at_layer(refused, layer, "cartocss")
