"""Translate PostgreSQL's errors into ours, by SQLSTATE and never by text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from flowmaps.errors import DatabaseUnavailable, FlowMapsError, Forbidden, InvalidSQL, QueryTimeout, UnknownRelation

_AWAY_CLASSES = frozenset({"08", "28", "3D", "40", "53", "58"})
"""No connection, no entry, no database, lost a race, no memory or disk, broken system."""
_AWAY_STATES = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04", "XX001", "XX002"})
_TIMEOUT_STATES = frozenset({"57014", "55P03"})
_NO_RELATION = "42P01"
_SQL_CLASSES = frozenset({"0A", "20", "21", "22", "23", "25", "2F", "38", "39", "42", "54", "P0", "XX"})


def our_error(error: Exception) -> FlowMapsError | None:
    """Return what *error* means to the one who must act; None where it is a defect of ours."""
    if isinstance(error, (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, psycopg_pool.PoolClosed)):
        return DatabaseUnavailable("no connection to the database was free in time")
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state is None:
        is_away = isinstance(error, psycopg.OperationalError)
        return DatabaseUnavailable("the database does not answer") if is_away else None
    if state in _TIMEOUT_STATES:
        return QueryTimeout("the query took longer than it may")
    if state in _AWAY_STATES or state[:2] in _AWAY_CLASSES:
        return DatabaseUnavailable(f"the database cannot answer just now (SQLSTATE {state})")
    # The primary message alone: the rest may quote the whole query.
    message = error.diag.message_primary or "the database refuses the query"
    if state == "42501":
        return Forbidden(message)
    if state[:2] in _SQL_CLASSES:
        ours = (UnknownRelation if state == _NO_RELATION else InvalidSQL)(message, sqlstate=state)
        place = error.diag.statement_position
        ours.cursor = int(place) if place else None
        return ours
    return None


@contextmanager
def translate_database_errors() -> Iterator[None]:
    """Raise `DatabaseUnavailable`, `QueryTimeout`, `Forbidden` or `InvalidSQL` for what PostgreSQL says."""
    try:
        yield
    except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
        ours = our_error(error)
        if ours is None:
            raise
        raise ours from error
