"""Ask PostgreSQL for the classes of a column, over a connection of the tenant's reader role.

What a map's query returns is read once for each question, within the statement timeout; nulls, infinities and NaN
are left out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql

from flowmaps.errors import InvalidSQL
from flowmaps.render.describe import describe
from flowmaps.turbocarto import Bin, Classes, Question, head_tail_breaks, natural_breaks

BOOL, FLOAT4 = 16, 700
_INTEGERS = frozenset((20, 21, 23))
_NUMBERS = _INTEGERS | frozenset((FLOAT4, 701, 1700))
MISSING_COLUMN = "42703"
WRONG_TYPE = "42804"
MOST_BINS = 3000
"""Distinct values that natural and head/tail breaks are found over; more are first taken together as quantiles."""
MOST_CATEGORY_CHARS = 1000

_EQUAL: LiteralString = "select min({v})::float8, max({v})::float8, avg({v}::float8), null from {source}"
_QUANTILES: LiteralString = """
    select min({v})::float8, max({v})::float8, avg({v}::float8),
        percentile_disc(array(select part::float8 / {n} from generate_series(1, {n}) as part))
        within group (order by {v})
    from {source}
"""
_BINS: LiteralString = """
    select min(v)::float8, max(v)::float8, sum(v::float8 * n), sum(v::float8 * v::float8 * n), sum(n)::bigint
    from (
        select v, n, ntile({n}) over (order by v) as bin
        from (select {v} as v, count(*) as n from {source} group by 1) as distinct_values
    ) as binned
    group by bin order by bin
"""
_CATEGORIES: LiteralString = "select {v} from {source} group by 1 order by count(*) desc, 1 limit {n}"


async def classify(conn: AsyncConnection[Any], query: str, question: Question) -> Classes:
    """Return the answer to *question* over *query*, a vetted sub-query with alias, tokens filled in.

    Raise `InvalidSQL` where the column is missing or cannot be classified so, `QueryTimeout`.
    """
    types: Mapping[str, int] = {column.name: column.type_oid for column in await describe(conn, query)}
    kind = types.get(question.column)
    if kind is None:
        raise InvalidSQL(f'column "{question.column}" does not exist', sqlstate=MISSING_COLUMN)
    value: sql.Composable = sql.SQL("cdbq.{}").format(sql.Identifier(question.column))
    if question.method == "category":
        if kind not in _NUMBERS and kind != BOOL:
            value += sql.SQL("::text")
    elif kind not in _NUMBERS:
        text = f'column "{question.column}" holds no numbers, which {question.method} needs'
        raise InvalidSQL(text, sqlstate=WRONG_TYPE)
    elif kind == FLOAT4:
        # As Mapnik compares it: the shortest text of a float4 is another number as a float8.
        value += sql.SQL("::float8")
    condition = sql.SQL("{v} is not null").format(v=value)
    if kind in _NUMBERS - _INTEGERS:
        condition += sql.SQL(" and {v}::float8 not in ('NaN', 'Infinity', '-Infinity')").format(v=value)
    source = sql.SQL("{query} where {condition}").format(query=sql.SQL(query), condition=condition)

    async def rows(template: LiteralString, n: int) -> list[Any]:
        statement = sql.SQL(template).format(v=value, n=sql.Literal(n), source=source)
        return await (await conn.execute(statement, prepare=False)).fetchall()

    match question.method:
        case "category":
            return _categories(question, await rows(_CATEGORIES, question.classes))
        case "quantiles":
            least, most, average, limits = (await rows(_QUANTILES, question.classes))[0]
            return Classes(tuple(limits), least, most, average) if limits else Classes(())
        case "equal":
            least, most, average, _ = (await rows(_EQUAL, question.classes))[0]
            return _equal(question.classes, least, most, average) if least is not None else Classes(())
        case _:
            return await _breaks(question, await rows(_BINS, MOST_BINS))


def _equal(classes: int, least: float, most: float, average: float) -> Classes:
    step = (most - least) / classes
    if not math.isfinite(step):
        raise InvalidSQL("the values are too far apart for equal intervals", sqlstate="22003")
    return Classes((*(least + part * step for part in range(1, classes)), most), least, most, average)


async def _breaks(question: Question, rows: list[Any]) -> Classes:
    if not rows:
        return Classes(())
    bins = [Bin(largest, total, squares, n) for _, largest, total, squares, n in rows]
    if question.method == "headtails":
        limits = tuple(head_tail_breaks(bins, question.classes))
    else:
        # Up to a second of arithmetic: not on the event loop.
        ends = await asyncio.to_thread(natural_breaks, bins, question.classes)
        limits = tuple(bins[end].largest for end in ends)
    average = sum(item.total for item in bins) / sum(item.rows for item in bins)
    return Classes(limits, rows[0][0], bins[-1].largest, average)


def _categories(question: Question, rows: list[Any]) -> Classes:
    categories = tuple(category for (category,) in rows)
    if any(isinstance(category, str) and len(category) > MOST_CATEGORY_CHARS for category in categories):
        text = f'column "{question.column}" holds categories of more than {MOST_CATEGORY_CHARS} characters'
        raise InvalidSQL(text, sqlstate="22001")
    return Classes(categories)
