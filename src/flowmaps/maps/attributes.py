"""Answer the attributes of one feature."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql

from flowmaps.errors import InvalidMapConfig, InvalidRequest, UnknownFeature
from flowmaps.mapconfig import AttributesOption, Layer, MapConfig
from flowmaps.maps.plain import plain_value
from flowmaps.maps.preparation import PreparedLayer, at_layer
from flowmaps.maps.services import Services
from flowmaps.maps.tiles import split_layergroupid
from flowmaps.render.describe import describe

MOST_ROWS = 1000
"""Rows of one id that are counted; more are as wrong as these."""
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_INTEGERS = frozenset((20, 21, 23, 26))
_NUMBERS = _INTEGERS | frozenset((700, 701, 1700))
_TEXTS = frozenset((25, 1042, 1043, 19))


async def answer_attributes(services: Services, layergroupid: str, layer: str, feature_id: str) -> bytes:
    """Return the attributes of a feature as JSON; *layer* is an index.

    Raise `UnknownMap`, `InvalidMapConfig`, `UnknownFeature`, `InvalidRequest`, `InvalidSQL` or a `TemporaryError`.
    """
    token, _ = split_layergroupid(layergroupid)
    loaded = await services.load(token)
    found = layer_with_attributes(loaded.prepared.config, token, layer)
    async with services.tenants.reader(loaded.stored.topic) as conn:
        rows = await fetch_attributes(conn, loaded.prepared.layers[found.index], feature_id)
    distinct = list(dict.fromkeys(rows))
    if len(distinct) == 1:
        return distinct[0].encode()
    name = found.attributes.id if found.attributes else ""
    text = f"Multiple features ({len(rows)}) identified by '{name}' = {feature_id} in layer {layer}"
    if not rows:
        raise UnknownFeature(text)
    raise at_layer(InvalidMapConfig(text), found, "attributes")


def layer_at(config: MapConfig, token: str, layer: str) -> Layer:
    """Return the layer at an index; raise `InvalidMapConfig`."""
    if not re.fullmatch(r"[0-9]{1,6}", layer) or int(layer) >= len(config.layers):
        raise InvalidMapConfig(f"Map {token} has no layer number {layer[:40]}", kind="layer")
    return config.layers[int(layer)]


def layer_with_attributes(config: MapConfig, token: str, layer: str) -> Layer:
    """Return the layer at an index, which must expose attributes; raise `InvalidMapConfig`."""
    found = layer_at(config, token, layer)
    if found.attributes is None or found.sql is None:
        raise at_layer(InvalidMapConfig(f"Layer {layer} has no exposed attributes"), found, "attributes")
    return found


async def fetch_attributes(conn: AsyncConnection[Any], item: PreparedLayer, feature_id: str) -> list[str]:
    """Return the rows with an id as JSON texts, at most `MOST_ROWS`; the id is always a parameter of the query."""
    option = item.layer.attributes
    if option is None:
        raise RuntimeError("the layer exposes no attributes")
    types = {column.name: column.type_oid for column in await describe(conn, item.source_query())}
    condition, value = _condition(option, types.get(option.id, 0), feature_id)
    # A percent sign in the map's SQL is no placeholder.
    statement = sql.SQL("select {columns} from {query} where {condition} limit {limit}").format(
        columns=_columns(option.columns),
        query=sql.SQL(item.source_query().replace("%", "%%")),
        condition=condition,
        limit=sql.Literal(MOST_ROWS),
    )
    cursor = await conn.execute(statement, [value], prepare=False)
    rows = await cursor.fetchall()
    return [_encoded(dict(zip(option.columns, row, strict=True))) for row in rows]


async def check_attributes(conn: AsyncConnection[Any], item: PreparedLayer) -> None:
    """Run the attributes query for the first row only, to see that it works; no row is fine."""
    option = item.layer.attributes
    if option is not None:
        statement = sql.SQL("select {columns} from {query} limit 1").format(
            columns=sql.SQL(", ").join(map(sql.Identifier, (*option.columns, option.id))),
            query=sql.SQL(item.source_query()),
        )
        await conn.execute(statement, prepare=False)


def _columns(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("cdbq.{}").format(_name(name)) for name in names)


def _name(name: str) -> sql.SQL:
    """Return a quoted name for a statement with parameters, where a percent sign must be doubled."""
    return sql.SQL(sql.Identifier(name).as_string(None).replace("%", "%%"))


def _condition(option: AttributesOption, type_oid: int, feature_id: str) -> tuple[sql.Composable, object]:
    """Return the condition on the id column and its parameter; raise `InvalidRequest` for an id of another type."""
    comparison, value = matching(type_oid, feature_id)
    return sql.SQL(comparison).format(sql.SQL("cdbq.{}").format(_name(option.id))), value


def matching(type_oid: int, feature_id: str) -> tuple[LiteralString, object]:
    """Return a condition with ``{}`` for a column of that type and ``%s`` for the value; raise `InvalidRequest`."""
    if "\0" in feature_id:
        raise InvalidRequest("the id of a feature cannot hold a NUL character", member="fid")
    if type_oid in _NUMBERS:
        if not _NUMBER.fullmatch(feature_id):
            raise InvalidRequest(f"the id of a feature must be a number, not {feature_id[:60]}", member="fid")
        number = Decimal(feature_id)
        whole = int(number) if number == number.to_integral_value() else None
        is_small = whole is not None and -(1 << 63) <= whole < 1 << 63
        return "{} = %s", whole if is_small and type_oid in _INTEGERS else number
    if type_oid in _TEXTS:
        return "{} = %s", feature_id
    return "{}::text = %s", feature_id


def _encoded(row: dict[str, Any]) -> str:
    plain = {name: plain_value(value) for name, value in row.items()}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
