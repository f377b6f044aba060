"""What a map store keeps, and what every store can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from flowmaps.errors import CallerError, UnknownMap

RENEW_SECONDS = 60
"""A map in use is given its full lifetime again at most this often, and not with every tile."""


class TooManyMaps(CallerError):
    """The tenant has as many live maps as it may have."""


@dataclass(frozen=True, slots=True)
class StoredMap:
    """A created map: its token, its tenant's topic, and the MapConfig document as it was checked."""

    token: str
    topic: str
    document: Mapping[str, Any]
    created: datetime


class MapStore(Protocol):
    """A place for created maps. Methods raise `StoreUnavailable` when it does not answer."""

    async def save(self, stored: StoredMap, *, share: float = 1) -> None:
        """Keep the map for its whole lifetime from now; raise `TooManyMaps`. A map that is there stays as it is.

        *share* is the part of the tenant's maps that may be there already.
        """

    async def load(self, token: str) -> StoredMap:
        """Return the map and note its use; raise `UnknownMap`."""

    async def revoke(self, token: str) -> bool:
        """Forget the map; tell whether it was there."""

    async def maps_of(self, topic: str) -> list[StoredMap]:
        """Return the live maps of a tenant, oldest first."""

    async def revoke_all(self, topic: str) -> int:
        """Forget every map of a tenant; return how many there were."""

    async def purge_expired(self) -> int:
        """Delete what nobody can load any more; return how many maps."""

    async def ready(self) -> None:
        """Raise `StoreUnavailable` where the store does not answer."""


def unknown_map(token: str) -> UnknownMap:
    return UnknownMap(f"Invalid or nonexistent map configuration token '{token}'")


def most_maps(limit: int, share: float) -> int:
    return max(1, int(limit * share))


def too_many(limit: int) -> TooManyMaps:
    return TooManyMaps(f"the tenant has {limit} live maps already, which is the limit")
