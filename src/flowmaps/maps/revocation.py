"""Take maps back: from then on their tokens are as unknown as any other."""

from __future__ import annotations

from flowmaps.maps.services import Services
from flowmaps.maps.tiles import split_layergroupid
from flowmaps.mapstore.values import unknown_map


async def revoke_map(services: Services, layergroupid: str) -> None:
    """Forget a map; raise `UnknownMap` where there is none.

    This process answers for it no more at once, others within the time that they keep a map without asking the store.
    """
    token, _ = split_layergroupid(layergroupid)
    services.forget(token)
    if not await services.store.revoke(token):
        raise unknown_map(token)
