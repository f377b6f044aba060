"""Say what an operator wants to know of one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from flowmaps.tenants.database_errors import translate_database_errors
from flowmaps.tenants.registry import Tenant

_COUNTS: LiteralString = """
select
    count(*) filter (where geom is not null),
    count(*) filter (where geom is null),
    pg_database_size(current_database()),
    pg_total_relation_size('flowmaps.datapoint'),
    (select last_change from flowmaps.change)
from flowmaps.datapoint
"""


@dataclass(frozen=True, slots=True)
class Offset:
    """Where reading goes on in a partition."""

    cluster_id: str
    partition: int
    next_offset: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """A tenant's contents; sizes in bytes. *removed* counts identifiers that are remembered, but not on the map."""

    datapoints: int
    removed: int
    database_bytes: int
    table_bytes: int
    last_change: datetime
    offsets: Sequence[Offset]
    rejected: dict[str, int]
    open_gaps: int
    connections: int


def describe_tenant(tenant: Tenant) -> Overview:
    """Ask the tenant's database; raise `DatabaseUnavailable`. Counting reads the whole table."""
    with translate_database_errors(), psycopg.connect(tenant.conninfo_owner) as conn:

        def ask(query: LiteralString) -> list[Any]:
            return conn.execute(query).fetchall()

        (counts,) = ask(_COUNTS)
        offsets = ask(
            "select cluster_id, partition, next_offset, updated_at from flowmaps.consumer_offset order by 1, 2"
        )
        rejected = ask("select reason, count(*) from flowmaps.rejected group by 1 order by 1")
        ((gaps,),) = ask("select count(*) from flowmaps.gap where resumed_at is null")
        ((connections,),) = ask("select count(*) from pg_stat_activity where datname = current_database()")
    datapoints, removed, database_bytes, table_bytes, last_change = counts
    return Overview(
        datapoints,
        removed,
        database_bytes,
        table_bytes,
        last_change,
        offsets=tuple(Offset(*row) for row in offsets),
        rejected=dict(rejected),
        open_gaps=gaps,
        connections=connections,
    )
