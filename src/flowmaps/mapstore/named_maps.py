"""Templates of named maps, in the table `flowmaps.named_map` of the master database.

They stay until they are deleted, so they are there whatever the store of created maps is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowmaps.errors import CallerError, InvalidRequest
from flowmaps.mapstore.postgresql import Connect, MasterTable
from flowmaps.settings import LimitSettings


class UnknownNamedMap(CallerError):
    """The tenant has no named map of this name."""


class TooManyNamedMaps(CallerError):
    """The tenant has as many named maps as it may have."""


@dataclass(frozen=True, slots=True)
class NamedMap:
    """A stored template; *revision* differs where the template does."""

    topic: str
    name: str
    document: Mapping[str, Any]
    revision: str


class NamedMapStore(MasterTable):
    """The named maps of all tenants. Methods raise `StoreUnavailable` when the master database does not answer."""

    def __init__(self, connect: Connect, limits: LimitSettings) -> None:
        super().__init__(connect, limits, "named maps")

    async def add(self, topic: str, name: str, template: str) -> None:
        """Store a new template, JSON text; raise `TooManyNamedMaps`, or `InvalidRequest` where the name is taken."""
        most = self._limits.named_maps_per_tenant
        async with self._rows() as conn:
            # Counting and inserting are one step for each tenant, or parallel requests would pass the limit.
            await conn.execute("select pg_advisory_xact_lock(hashtext('flowmaps named map'), hashtext(%s))", [topic])
            cursor = await conn.execute("select count(*) from flowmaps.named_map where topic = %s", [topic])
            row = await cursor.fetchone()
            if row is not None and row[0] >= most:
                raise TooManyNamedMaps(f"Topic '{topic}' reached limit on number of templates ({row[0]}/{most})")
            cursor = await conn.execute(
                """
                insert into flowmaps.named_map (topic, name, template) values (%s, %s, %s)
                on conflict (topic, name) do nothing
                """,
                [topic, name, template],
            )
            if not cursor.rowcount:
                raise InvalidRequest(f"Template '{name}' of topic '{topic}' already exists", member="name")

    async def replace(self, topic: str, name: str, template: str) -> None:
        """Store another template under a name; raise `UnknownNamedMap`."""
        async with self._rows() as conn:
            cursor = await conn.execute(
                "update flowmaps.named_map set template = %s, updated_at = now() where topic = %s and name = %s",
                [template, topic, name],
            )
            if not cursor.rowcount:
                raise unknown(topic, name)

    async def remove(self, topic: str, name: str) -> None:
        """Delete a template; raise `UnknownNamedMap`."""
        async with self._rows() as conn:
            cursor = await conn.execute("delete from flowmaps.named_map where topic = %s and name = %s", [topic, name])
            if not cursor.rowcount:
                raise unknown(topic, name)

    async def load(self, topic: str, name: str) -> NamedMap:
        """Return a template; raise `UnknownNamedMap`."""
        async with self._rows() as conn:
            cursor = await conn.execute(
                "select template, md5(template::text) from flowmaps.named_map where topic = %s and name = %s",
                [topic, name],
            )
            row = await cursor.fetchone()
        if row is None:
            raise unknown(topic, name)
        return NamedMap(topic, name, row[0], row[1])

    async def revisions(self, topic: str, names: Iterable[str]) -> dict[str, str]:
        """Return the revisions of those templates that there are, by name."""
        async with self._rows() as conn:
            cursor = await conn.execute(
                "select name, md5(template::text) from flowmaps.named_map where topic = %s and name = any(%s)",
                [topic, list(names)],
            )
            return dict(await cursor.fetchall())

    async def names(self, topic: str) -> list[str]:
        """Return the names of a tenant's templates in alphabetic order."""
        async with self._rows() as conn:
            cursor = await conn.execute("select name from flowmaps.named_map where topic = %s order by name", [topic])
            return [row[0] for row in await cursor.fetchall()]


def unknown(topic: str, name: str) -> UnknownNamedMap:
    return UnknownNamedMap(f"Cannot find template '{name[:128]}' of topic '{topic[:249]}'")
