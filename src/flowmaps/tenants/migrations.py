"""Bring a database to the newest schema: numbered SQL files, each once, in order, in one transaction."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import Connection

from flowmaps.errors import ConfigurationError

Kind = Literal["master", "tenant"]
_LOCK_KEY = 7_190_225
_SETUP: LiteralString = """
create schema if not exists flowmaps;
create table if not exists flowmaps.migration (
    name text primary key,
    applied_at timestamptz not null default clock_timestamp()
);
"""


def migrations(kind: Kind) -> list[tuple[str, str]]:
    """Return (name, SQL) of every migration of *kind*, oldest first."""
    folder = files("flowmaps.tenants").joinpath("sql", kind)
    found = [(entry.name.removesuffix(".sql"), entry) for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [(name, entry.read_text(encoding="utf-8")) for name, entry in sorted(found, key=lambda pair: pair[0])]


def apply_migrations(conn: Connection[Any], kind: Kind) -> list[str]:
    """Apply what *conn*'s database lacks and return the names; safe for several callers at once.

    Raise `ConfigurationError` where the database is newer than this program.
    """
    known = migrations(kind)
    if _applied(conn) == {name for name, _ in known}:
        return []
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(%s)", [_LOCK_KEY])
        conn.execute(_SETUP)
        done = _applied(conn)
        if newer := sorted(done - {name for name, _ in known}):
            raise ConfigurationError(f"the database has migration {newer[-1]}, which is newer than this program")
        todo = [(name, text) for name, text in known if name not in done]
        for name, text in todo:
            conn.execute(text.encode())
            conn.execute("insert into flowmaps.migration (name) values (%s)", [name])
    return [name for name, _ in todo]


def pending_migrations(conn: Connection[Any], kind: Kind) -> list[str]:
    """Return the names of the migrations that *conn*'s database lacks, oldest first; nothing is changed.

    Raise `ConfigurationError` where the database is newer than this program.
    """
    known = [name for name, _ in migrations(kind)]
    done = _applied(conn)
    if newer := sorted(done - set(known)):
        raise ConfigurationError(f"the database has migration {newer[-1]}, which is newer than this program")
    return [name for name in known if name not in done]


def _applied(conn: Connection[Any]) -> set[str]:
    try:
        with conn.transaction():
            return {row[0] for row in conn.execute("select name from flowmaps.migration")}
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return set()
