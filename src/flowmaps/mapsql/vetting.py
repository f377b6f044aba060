"""Check that a map's SQL is one SELECT that only reads and computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import postgast
from google.protobuf.message import DecodeError

from flowmaps.errors import InvalidSQL, Position
from flowmaps.mapsql.functions import is_allowed
from flowmaps.mapsql.tokens import BLANK, TOKEN, blank_tokens

SYNTAX_ERROR = "42601"
NOT_ALLOWED = "42501"
TOO_COMPLEX = "54001"
MAX_NODES = 20_000
MAX_LINKS = 4_000
_FLAT = frozenset((44, 258, 260, 261, 266, 275, 276))
"""Tokens that never nest: commas, names, numbers, strings, comments."""
_NO_SET_OPERATION = 1

_SCHEMAS = ("", "public")
_FUNCTION_SCHEMAS = ("", "public", "pg_catalog")
_DATE_FUNCTIONS = (
    "SVFOP_CURRENT_DATE",
    "SVFOP_CURRENT_TIME",
    "SVFOP_CURRENT_TIME_N",
    "SVFOP_CURRENT_TIMESTAMP",
    "SVFOP_CURRENT_TIMESTAMP_N",
    "SVFOP_LOCALTIME",
    "SVFOP_LOCALTIME_N",
    "SVFOP_LOCALTIMESTAMP",
    "SVFOP_LOCALTIMESTAMP_N",
)


@dataclass(frozen=True, slots=True)
class VettedSQL:
    """One SELECT without its semicolon, tokens still in it; *tables* are the relations it reads."""

    sql: str
    tables: tuple[str, ...]


def vet(sql: str) -> VettedSQL:
    """Return *sql* if it is a single SELECT that reads tables of the public schema; raise `InvalidSQL`."""
    parsed = _parse(sql)
    if not parsed.stmts:
        raise InvalidSQL("the query is empty", sqlstate=SYNTAX_ERROR)
    if len(parsed.stmts) > 1:
        raise InvalidSQL(f"the query holds {len(parsed.stmts)} statements, one is allowed", sqlstate=SYNTAX_ERROR)
    statement = parsed.stmts[0]
    kind = statement.stmt.WhichOneof("node")
    if kind != "select_stmt":
        raise InvalidSQL(f"only SELECT is allowed, not {_words(kind or '')}", sqlstate=NOT_ALLOWED)
    tables: dict[str, None] = {}
    for message in _walk(statement.stmt):
        _check(message, sql, tables)
    names = _names_of_parts(statement.stmt)
    read = tuple(name for name in tables if name not in names)
    return VettedSQL(_text_of(sql, statement.stmt_location, statement.stmt_len), read)


def vet_expression(text: str) -> None:
    """Raise `InvalidSQL` unless *text* is one expression of allowed functions, such as ``count(*)``."""
    # The line break ends a comment that the text may end with.
    sql = f"select (\n{text}\n)"
    vetted = vet(sql)
    select = _parse(vetted.sql).stmts[0].stmt.select_stmt
    present = {field.name for field, _ in select.ListFields()} - {"limit_option", "op"}
    if present != {"target_list"} or len(select.target_list) != 1 or select.op != _NO_SET_OPERATION:
        raise InvalidSQL("an aggregation function must be one expression", sqlstate=SYNTAX_ERROR)


def _names_of_parts(statement: Any) -> frozenset[str]:
    """Return the names that the query gives to its own parts (``with name as``), which are no tables."""
    return frozenset(message.ctename for message in _walk(statement) if message.DESCRIPTOR.name == "CommonTableExpr")


def _parse(sql: str) -> Any:
    try:
        blanked = blank_tokens(sql)
        scanned = postgast.scan(blanked).tokens
        _check_nesting(scanned)
        _check_variables(sql, scanned)
        return postgast.parse(blanked)
    except postgast.PgQueryError as error:
        # PostgreSQL's parser names what it cannot read; its position counts characters from 1.
        raise _at(InvalidSQL(error.message, sqlstate=SYNTAX_ERROR), sql, error.cursorpos) from error
    except (DecodeError, RecursionError) as error:
        raise InvalidSQL("the query is nested too deeply", sqlstate=TOO_COMPLEX) from error
    except UnicodeEncodeError as error:
        raise InvalidSQL("the query is not valid Unicode", sqlstate=SYNTAX_ERROR) from error


def _check_nesting(scanned: Iterable[Any]) -> None:
    """Refuse what could nest so deeply that PostgreSQL's parser, which is C and recursive, runs out of its stack.

    A chain such as ``1+1+…`` is as deep as it is long, and 24,000 links ended the process. Scanning does not recurse.
    """
    links = sum(token.token not in _FLAT for token in scanned)
    if links > MAX_LINKS:
        text = f"the query has more than {MAX_LINKS} operators, words and parentheses"
        raise InvalidSQL(text, sqlstate=TOO_COMPLEX)


def _check_variables(sql: str, scanned: Iterable[Any]) -> None:
    """Refuse a render variable inside quotes, a comment or a word.

    It becomes a literal, whose quotes would end those around it: its text would then be SQL that nobody vetted.
    """
    variables = [match for match in TOKEN.finditer(sql) if match[1].startswith("@")]
    if not variables:
        return
    words = {token.start for token in scanned if token.end - token.start == len(BLANK)}
    for match in variables:
        if len(sql[: match.start()].encode()) not in words:
            text = f"the variable {match[0]} is a text already, it cannot stand inside quotes, a comment or a word"
            raise _at(InvalidSQL(text, sqlstate=SYNTAX_ERROR), sql, match.start() + 1)


def _at(error: InvalidSQL, sql: str, cursor: int) -> InvalidSQL:
    """Return *error* with the place of the character that PostgreSQL's *cursor* counts from 1, also in its message."""
    if cursor > 0:
        error.position = position_of(sql, cursor - 1)
        error.args = (f"{error.message} (line {error.position.line}, column {error.position.column})",)
    return error


def position_of(text: str, offset: int) -> Position:
    """Return line and column of a character."""
    before = text[:offset]
    return Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _text_of(sql: str, location: int, length: int) -> str:
    """Return the statement's own text; PostgreSQL counts bytes."""
    raw = sql.encode()
    end = location + length if length else len(raw)
    return raw[location:end].decode().strip()


def _walk(root: Any) -> Iterator[Any]:
    """Yield every message of a parse tree, without recursion."""
    stack = [root]
    count = 0
    while stack:
        message = stack.pop()
        count += 1
        if count > MAX_NODES:
            raise InvalidSQL(f"the query has more than {MAX_NODES} parts", sqlstate=TOO_COMPLEX)
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else (value,))


def _check(message: Any, sql: str, tables: dict[str, None]) -> None:
    name = message.DESCRIPTOR.name
    match name:
        case "SelectStmt":
            if message.HasField("into_clause"):
                raise _refused("SELECT INTO", sql, -1)
            if message.locking_clause:
                raise _refused("FOR UPDATE and its like", sql, -1)
        case "RangeVar":
            _check_table(message, sql)
            tables[message.relname] = None
        case "FuncCall":
            _check_function(message, sql)
        case "TypeName":
            _check_type(message, sql)
        case "SQLValueFunction":
            kind = message.DESCRIPTOR.fields_by_name["op"].enum_type.values_by_number[message.op].name
            if kind not in _DATE_FUNCTIONS:
                raise _refused(kind.removeprefix("SVFOP_").lower(), sql, message.location)
        case "ParamRef":
            raise _refused(f"the parameter ${message.number}", sql, message.location)
        case _ if name.endswith("Stmt") and name != "RawStmt":
            raise _refused(_words(name.removesuffix("Stmt")), sql, -1)


def _check_table(message: Any, sql: str) -> None:
    if message.catalogname or message.schemaname not in _SCHEMAS or message.relname.startswith("pg_"):
        name = ".".join(filter(None, (message.catalogname, message.schemaname, message.relname)))
        raise _refused(f"the relation {name}", sql, message.location)


def _check_function(message: Any, sql: str) -> None:
    parts = [part.string.sval for part in message.funcname]
    schema, name = ".".join(parts[:-1]), parts[-1]
    if schema not in _FUNCTION_SCHEMAS or not is_allowed(name):
        raise _refused(f"the function {'.'.join(parts)}", sql, message.location)


def _check_type(message: Any, sql: str) -> None:
    parts = [part.string.sval for part in message.names]
    if parts and (parts[-1].startswith("reg") or (len(parts) > 1 and parts[0] not in ("pg_catalog", "public"))):
        raise _refused(f"the type {'.'.join(parts)}", sql, message.location)


def _refused(what: str, sql: str, location: int) -> InvalidSQL:
    error = InvalidSQL(f"{what} is not allowed in a map's query", sqlstate=NOT_ALLOWED)
    if location < 0:
        return error
    # PostgreSQL counts bytes here, from 0.
    return _at(error, sql, len(sql.encode()[:location].decode("utf-8", "ignore")) + 1)


def _words(name: str) -> str:
    """Return ``delete_stmt`` or ``Delete`` as ``DELETE``."""
    return name.removesuffix("_stmt").replace("_", " ").upper()
