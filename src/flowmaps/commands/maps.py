"""``flow-maps maps``: look at the live maps of a tenant, and take them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flowmaps.commands.terminal import EnvFile, console, read_settings, say
from flowmaps.errors import UnknownMap
from flowmaps.mapstore import MapStore, StoredMap, open_map_store
from flowmaps.settings import Settings
from flowmaps.tenants import TenantPools

app = typer.Typer(help="Look after the maps that applications created.", no_args_is_help=True)


@app.command("list")
def maps_list(topic: str, env_file: EnvFile = None) -> None:
    """List the live maps of a topic: token, time of creation, layers."""
    settings = read_settings(env_file)
    table = Table("token", "created", "layers", box=None)
    for stored in asyncio.run(_maps_of(settings, topic)):
        layers = stored.document.get("layers", [])
        kinds = ", ".join(str(layer.get("type") or "mapnik") for layer in layers)
        table.add_row(stored.token, stored.created.isoformat(timespec="seconds"), escape(kinds))
    console.print(table)


@app.command("revoke")
def maps_revoke(
    tokens: Annotated[list[str] | None, typer.Argument(help="Tokens; what follows a colon is ignored.")] = None,
    topic: Annotated[str, typer.Option(help="Revoke every map of this topic instead.")] = "",
    env_file: EnvFile = None,
) -> None:
    """Take maps back; within seconds their tokens are unknown to every server."""
    if bool(tokens) == bool(topic):
        raise typer.BadParameter("give tokens, or --topic")
    settings = read_settings(env_file)
    if topic:
        count = asyncio.run(_revoke_all(settings, topic))
        say(f"{count} maps of {topic} revoked")
        return
    missing = asyncio.run(_revoke(settings, [token.partition(":")[0] for token in tokens or []]))
    if missing:
        raise UnknownMap(f"no live map: {', '.join(missing)}")
    say(f"{len(tokens or [])} maps revoked")


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[MapStore]:
    async with TenantPools(settings) as tenants, open_map_store(settings, tenants.master) as store:
        yield store


async def _maps_of(settings: Settings, topic: str) -> list[StoredMap]:
    async with _store(settings) as store:
        return await store.maps_of(topic)


async def _revoke_all(settings: Settings, topic: str) -> int:
    async with _store(settings) as store:
        return await store.revoke_all(topic)


async def _revoke(settings: Settings, tokens: list[str]) -> list[str]:
    """Revoke each, and return those that were not there."""
    async with _store(settings) as store:
        return [token for token in tokens if not await store.revoke(token)]
