"""Ask PostgreSQL how much and what a map's query returns. The reader of the answer is told plain values of psycopg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection, sql

from flowmaps.render.describe import Column

NUMBERS = frozenset((20, 21, 23, 700, 701, 1700))
"""int8, int2, int4, float4, float8, numeric."""
TEXTS = frozenset((18, 19, 25, 705, 1042, 1043))
"""char, name, text, untyped literals, bpchar, varchar."""
TIMES = frozenset((1082, 1083, 1114, 1184, 1266))
"""date, time, timestamp, timestamptz, timetz."""
_BOOLEAN = 16
MOST_CATEGORY_CHARS = 256
MOST_SAMPLE_BYTES = 1_000_000


async def limit_time(conn: AsyncConnection[Any], timeout_ms: int) -> None:
    """Bound every statement of the transaction from here on."""
    await conn.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(timeout_ms)))


async def estimated_rows(conn: AsyncConnection[Any], query: str) -> int:
    """Return how many rows the planner expects of *query*, a sub-query with alias; nothing is read."""
    row = await _row(conn, sql.SQL("explain (format json) select * from {}").format(sql.SQL(query)))
    return int(row[0][0]["Plan"]["Plan Rows"])


async def counted_rows(conn: AsyncConnection[Any], query: str) -> int:
    return int((await _row(conn, sql.SQL("select count(*) from {}").format(sql.SQL(query))))[0])


async def geometry_type(conn: AsyncConnection[Any], query: str, geom_column: str) -> str | None:
    """Return the type of the first geometry, such as ``ST_Point``; None where there is none."""
    statement = sql.SQL("select st_geometrytype(cdbq.{geom}) from {query} where cdbq.{geom} is not null limit 1")
    cursor = await conn.execute(statement.format(geom=sql.Identifier(geom_column), query=sql.SQL(query)), prepare=False)
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def type_words(conn: AsyncConnection[Any], columns: Sequence[Column]) -> dict[str, str]:
    """Return what clients call the columns' types: number, string, date, boolean, else PostgreSQL's own name."""
    unknown = {column.type_oid for column in columns if _word(column.type_oid) is None}
    cursor = await conn.execute(
        sql.SQL("select oid::bigint, format_type(oid, null) from pg_catalog.pg_type where oid = any({})").format(
            sql.Literal(sorted(unknown))
        ),
        prepare=False,
    )
    named = {int(oid): str(name) for oid, name in await cursor.fetchall()}
    return {
        column.name: _word(column.type_oid) or named.get(column.type_oid, f"unknown({column.type_oid})")
        for column in columns
    }


def _word(type_oid: int) -> str | None:
    if type_oid == _BOOLEAN:
        return "boolean"
    if type_oid in NUMBERS:
        return "number"
    if type_oid in TEXTS:
        return "string"
    return "date" if type_oid in TIMES else None


async def column_ranges(
    conn: AsyncConnection[Any], query: str, columns: Sequence[Column]
) -> dict[str, dict[str, object]]:
    """Return least, greatest, mean and sum of columns of numbers, and least and greatest of columns of times."""
    wanted = [
        (column.name, function)
        for column in columns
        for function in (
            ("min", "max", "avg", "sum")
            if column.type_oid in NUMBERS
            else ("min", "max")
            if column.type_oid in TIMES
            else ()
        )
    ]
    if not wanted:
        return {}
    parts = [sql.SQL("{}(cdbq.{})").format(sql.SQL(function), sql.Identifier(name)) for name, function in wanted]
    row = await _row(conn, sql.SQL("select {} from {}").format(sql.SQL(", ").join(parts), sql.SQL(query)))
    found: dict[str, dict[str, object]] = {}
    for (name, function), value in zip(wanted, row, strict=True):
        found.setdefault(name, {})[function] = value
    return found


async def categories(
    conn: AsyncConnection[Any], query: str, column: str, most: int, *, include_nulls: bool
) -> list[dict[str, object]]:
    """Return the most frequent texts of a column with their numbers of rows; long texts are cut."""
    name = sql.SQL("cdbq.{}").format(sql.Identifier(column))
    statement = sql.SQL(
        "select left({name}::text, {chars}), count(*) from {query} {where} group by {name} "
        "order by count(*) desc, {name} limit {most}"
    ).format(
        name=name,
        chars=sql.Literal(MOST_CATEGORY_CHARS),
        query=sql.SQL(query),
        where=sql.SQL("") if include_nulls else sql.SQL("where {} is not null").format(name),
        most=sql.Literal(most),
    )
    cursor = await conn.execute(statement, prepare=False)
    return [{"category": category, "frequency": frequency} for category, frequency in await cursor.fetchall()]


async def expression_range(conn: AsyncConnection[Any], query: str, expression: str, alias: str) -> tuple[Any, Any]:
    """Return the least and the greatest value of an expression over *query*, whose rows it knows as *alias*."""
    statement = sql.SQL("select min({value}), max({value}) from (select * from {query}) as {alias}").format(
        value=sql.SQL(expression), query=sql.SQL(query), alias=sql.Identifier(alias)
    )
    least, greatest = await _row(conn, statement)
    return least, greatest


async def sampled_rows(
    conn: AsyncConnection[Any], query: str, columns: Sequence[str], most: int
) -> list[dict[str, object]]:
    """Return some rows of *query*, chosen at random; fewer where they would be more than `MOST_SAMPLE_BYTES`."""
    names = list(map(sql.Identifier, columns))
    statement = sql.SQL(
        "select {names} from (select {names}, sum(octet_length(sampled::text)) over (rows unbounded preceding)"
        ' as "bytes so far" from (select {columns} from {query} order by random() limit {most}) as sampled) as measured'
        ' where "bytes so far" <= {bytes}'
    ).format(
        names=sql.SQL(", ").join(names),
        columns=sql.SQL(", ").join(sql.SQL("cdbq.{}").format(name) for name in names),
        query=sql.SQL(query),
        most=sql.Literal(most),
        bytes=sql.Literal(MOST_SAMPLE_BYTES),
    )
    cursor = await conn.execute(statement, prepare=False)
    return [dict(zip(columns, row, strict=True)) for row in await cursor.fetchall()]


async def _row(conn: AsyncConnection[Any], statement: sql.Composed) -> tuple[Any, ...]:
    cursor = await conn.execute(statement, prepare=False)
    row = await cursor.fetchone()
    if row is None:
        raise RuntimeError("a query that returns one row returned none")
    return tuple(row)
