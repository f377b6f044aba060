"""Named maps as values: a MapConfig with typed placeholders, and its instances. Pure.

What a value becomes depends on its type and on the place it goes to: inside quotes it is escaped for those quotes,
outside of them it brings its own. So no value can end the literal, the name or the number that it is.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

from flowmaps.errors import InvalidMapConfig, InvalidRequest, InvalidSQL
from flowmaps.mapsql.quoting import quoted_name, quoted_text
from flowmaps.mapsql.shape import shape
from flowmaps.mapsql.tokens import TOKEN
from flowmaps.settings import LimitSettings

VERSION = "0.0.1"
NAMED = "named"
"""The type of a layer of a MapConfig that stands for the layers of a named map."""
TYPES = ("sql_literal", "sql_ident", "number", "css_color")
MOST_PLACEHOLDERS = 100
MOST_TOKENS = 100
MOST_TOKENS_SHOWN = 8
"""Tokens that a caller may try at once."""
MAX_TOKEN_CHARS = 256
MAX_NAME_CHARS = 128
MAX_VALUE_CHARS = 10_000
_NAME = re.compile(r"[a-z0-9][0-9a-z_-]*", re.IGNORECASE | re.ASCII)
_PLACEHOLDER_NAME = re.compile(r"[a-z][0-9a-z_]*", re.IGNORECASE | re.ASCII)
_PLACEHOLDER = r"<%=\s*(?P<name>[A-Za-z0-9_]+)\s*%>"
_NUMBER = re.compile(r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?", re.ASCII)
_HEX_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_BARE_URL = re.compile(r"[-\w%@$/.&=:+?~]*")
_NESTED = re.compile(r"/\*|\*/")
_NOT_IN_STYLE_STRING = re.compile(r"[\\\"'\x00-\x1f\x7f]")

Place = Literal["plain", "single", "double", "url"]


class Placeholder(NamedTuple):
    """A placeholder's type, and its value where none is given."""

    type: str
    default: object


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template; *document* is what clients sent, with defaults filled in."""

    name: str
    document: Mapping[str, Any]
    placeholders: Mapping[str, Placeholder]
    tokens: tuple[str, ...] | None

    def document_text(self) -> str:
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":"))


class _Value(NamedTuple):
    """A checked value and the type that it was checked for."""

    kind: str
    text: str


class _Spot(NamedTuple):
    """Where a placeholder stands in a text."""

    name: str
    place: Place


class _Grammar(NamedTuple):
    """What matters in a language: how each place ends, and what begins another."""

    name: str
    places: Mapping[Place, re.Pattern[str]]


_SQL = _Grammar(
    "query",
    {
        "plain": re.compile(
            _PLACEHOLDER + r"|(?P<line>--)|(?P<block>/\*)|(?P<dollar>(?<![\w$])\$(?:[A-Za-z_]\w*)?\$)"
            r"""|(?P<escape>(?<![\w$])(?:[eE]'|[uU]&['"]))|(?P<single>')|(?P<double>")"""
        ),
        "single": re.compile(_PLACEHOLDER + "|(?P<kept>'')|(?P<end>')"),
        "double": re.compile(_PLACEHOLDER + '|(?P<kept>"")|(?P<end>")'),
    },
)
_STYLE = _Grammar(
    "style",
    {
        "plain": re.compile(
            _PLACEHOLDER + r"""|(?P<line>//)|(?P<block>/\*)|(?P<url>url\((?!\s*['"]))|(?P<single>')|(?P<double>")"""
        ),
        "single": re.compile(_PLACEHOLDER + r"|(?P<kept>\\.)|(?P<end>')", re.DOTALL),
        "double": re.compile(_PLACEHOLDER + r'|(?P<kept>\\.)|(?P<end>")', re.DOTALL),
        "url": re.compile(_PLACEHOLDER + r"|(?P<end>\))"),
    },
)


def parse_template(raw: object, *, limits: LimitSettings) -> Template:
    """Return the template that *raw*, decoded JSON, describes; raise `InvalidRequest` naming the member."""
    if not isinstance(raw, Mapping):
        raise InvalidRequest("the template must be an object", member="template")
    if raw.get("version") != VERSION:
        raise InvalidRequest(f"Unsupported template version {_shown(raw.get('version'))}", member="version")
    name = raw.get("name")
    if not name:
        raise InvalidRequest("Missing template name", member="name")
    if not isinstance(name, str) or not is_name(name):
        raise InvalidRequest(f"Invalid characters in template name '{_shown(name)}'", member="name")
    _check_layergroup(raw.get("layergroup"))
    placeholders = _placeholders(raw.get("placeholders"))
    method, tokens = _auth(raw.get("auth"))
    if not isinstance(raw.get("view", {}), Mapping):
        raise InvalidRequest("The view of a template must be an object", member="view")
    auth = {**(raw.get("auth") or {}), "method": method}
    document = {**raw, "auth": auth, "placeholders": dict(raw.get("placeholders") or {})}
    template = Template(name, document, placeholders, tokens)
    try:
        size = len(template.document_text().encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("The template is not valid Unicode", member="template") from error
    if size > limits.template_bytes:
        raise InvalidRequest(f"The template has {size} bytes, the limit is {limits.template_bytes}", member="template")
    # Shows placeholders at places where they cannot be, and defaults that do not fit.
    instantiate(template, {})
    return template


def is_name(name: str) -> bool:
    """Tell whether a template may have this name."""
    return _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME_CHARS


def lets_in(template: Template, tokens: Sequence[str]) -> bool:
    """Tell whether the template is open, or one of *tokens* is among its own."""
    if template.tokens is None:
        return True
    # All are compared, so that the time tells nothing.
    matches = [
        hmac.compare_digest(known.encode("utf-8", "replace"), token.encode("utf-8", "replace"))
        for known in template.tokens
        for token in tokens[:MOST_TOKENS_SHOWN]
    ]
    return any(matches)


def template_of(document: Mapping[str, Any]) -> Template:
    """Return a template that was checked when it was stored."""
    return Template(document["name"], document, _placeholders(document["placeholders"]), _auth(document["auth"])[1])


def instantiate(template: Template, params: object) -> dict[str, Any]:
    """Return the MapConfig with values put in; raise `InvalidRequest` naming the parameter."""
    if params is None:
        params = {}
    if not isinstance(params, Mapping):
        raise InvalidRequest("The parameters of a template must be an object", member="params")
    if "styles" in params and "styles" not in template.placeholders:
        # They would show what the query returns and the template's style does not.
        raise InvalidRequest("Styles cannot be given to a named map", member="params.styles")
    values = {
        name: _checked(name, placeholder.type, params.get(name, placeholder.default))
        for name, placeholder in template.placeholders.items()
    }
    layergroup: dict[str, Any] = json.loads(json.dumps(template.document["layergroup"]))
    _check_elsewhere(layergroup)
    for index, layer in enumerate(layergroup["layers"]):
        options = layer["options"]
        place = f"layergroup.layers[{index}].options"
        if isinstance(options.get("sql"), str):
            options["sql"] = _query(options["sql"], template, values, f"{place}.sql")
        if isinstance(options.get("cartocss"), str):
            options["cartocss"] = _filled(options["cartocss"], _STYLE, values, f"{place}.cartocss")
    sizes = layergroup.get("buffersize")
    if isinstance(sizes, dict):
        for name, size in sizes.items():
            if isinstance(size, str) and "<%=" in size:
                sizes[name] = _number_of(_filled(size, _STYLE, values, "layergroup.buffersize"))
    return layergroup


def _number_of(text: str) -> float | str:
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def _check_layergroup(layergroup: object) -> None:
    if not isinstance(layergroup, Mapping):
        raise InvalidRequest("Missing layergroup", member="layergroup")
    layers = layergroup.get("layers")
    if not isinstance(layers, list) or not layers:
        text = "Missing or empty layers array from layergroup config"
        raise InvalidRequest(text, member="layergroup.layers")
    without = [
        str(index)
        for index, layer in enumerate(layers)
        if not isinstance(layer, Mapping) or not isinstance(layer.get("options"), Mapping)
    ]
    if without:
        text = f"Missing `options` in layergroup config for layers: {', '.join(without)}"
        raise InvalidRequest(text, member="layergroup.layers")
    for index, layer in enumerate(layers):
        if layer.get("type") == NAMED:
            text = "Nested named layers are not allowed"
            raise InvalidRequest(text, member=f"layergroup.layers[{index}].type")


def _placeholders(raw: object) -> dict[str, Placeholder]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or len(raw) > MOST_PLACEHOLDERS:
        text = f"The placeholders of a template must be an object of at most {MOST_PLACEHOLDERS}"
        raise InvalidRequest(text, member="placeholders")
    found: dict[str, Placeholder] = {}
    for name, value in raw.items():
        member = f"placeholders.{name[:60]}"
        if not _PLACEHOLDER_NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(f"Invalid characters in placeholder name '{_shown(name)}'", member="placeholders")
        if not isinstance(value, Mapping) or "default" not in value:
            raise InvalidRequest(f"Missing default for placeholder '{name}'", member=member)
        if "type" not in value:
            raise InvalidRequest(f"Missing type for placeholder '{name}'", member=member)
        if value["type"] not in TYPES:
            raise InvalidRequest(f"Invalid placeholder type '{_shown(value['type'])}'", member=member)
        found[name] = Placeholder(value["type"], value["default"])
    return found


def _auth(raw: object) -> tuple[str, tuple[str, ...] | None]:
    """Return the method, and the tokens of which one is needed; None where anybody may."""
    auth = {"method": "open"} | dict(raw) if isinstance(raw, Mapping) else {"method": "open"} if raw is None else {}
    match auth.get("method"):
        case "open":
            return "open", None
        case "token":
            tokens = auth.get("valid_tokens")
            if not isinstance(tokens, list):
                text = "Invalid 'token' authentication: missing valid_tokens"
                raise InvalidRequest(text, member="auth.valid_tokens")
            if not tokens:
                text = "Invalid 'token' authentication: no valid_tokens"
                raise InvalidRequest(text, member="auth.valid_tokens")
            if len(tokens) > MOST_TOKENS or not all(
                isinstance(token, str) and 0 < len(token) <= MAX_TOKEN_CHARS for token in tokens
            ):
                text = f"at most {MOST_TOKENS} texts of 1 to {MAX_TOKEN_CHARS} characters"
                raise InvalidRequest(f"Invalid 'token' authentication: {text}", member="auth.valid_tokens")
            return "token", tuple(tokens)
        case method:
            raise InvalidRequest(f"Unsupported authentication method: {_shown(method)}", member="auth.method")


def _checked(name: str, kind: str, value: object) -> _Value:
    """Return a value of its type, or raise `InvalidRequest`."""
    return _Value(kind, _text_of(name, kind, value))


def _text_of(name: str, kind: str, value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "number":
        text = str(value) if is_number else value.strip() if isinstance(value, str) else ""
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            raise _bad_value(kind, name, value)
        return str(int(text)) if re.fullmatch(r"[-+]?[0-9]+", text) else repr(float(text))
    if kind == "css_color":
        if isinstance(value, str) and _HEX_COLOUR.fullmatch(value):
            return value
        if isinstance(value, str) and value.lower() in _colours():
            return value.lower()
        raise _bad_value(kind, name, value)
    if is_number:
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_VALUE_CHARS or "\0" in value:
        raise _bad_value(kind, name, value)
    return value


def _bad_value(kind: str, name: str, value: object) -> InvalidRequest:
    text = f"Invalid {kind} value for template parameter '{name}': {_shown(value)}"
    return InvalidRequest(text, member=f"params.{name}")


def _query(sql: str, template: Template, values: Mapping[str, _Value], member: str) -> str:
    """Return the query with values put in.

    The second lock: with other constants it must still be the same query, by PostgreSQL's own grammar.
    """
    filled = _filled(sql, _SQL, values, member)
    if filled != sql:
        defaults = {
            name: _checked(name, placeholder.type, placeholder.default)
            for name, placeholder in template.placeholders.items()
        }
        names = {name for name, placeholder in template.placeholders.items() if placeholder.type == "sql_ident"}
        constants = {**values, **{name: defaults[name] for name in names}}
        try:
            same = shape(_filled(sql, _SQL, constants, member)) == shape(_filled(sql, _SQL, defaults, member))
        except InvalidSQL as error:
            raise InvalidRequest(error.message, member=member) from error
        if not same:
            raise InvalidRequest("The parameters would change what the query does", member=member)
    return filled


def _filled(text: str, grammar: _Grammar, values: Mapping[str, _Value], member: str) -> str:
    if "<%=" not in text:
        return text
    write: Callable[[_Value, Place], str] = _in_sql if grammar is _SQL else _in_style
    parts: list[str] = []
    for piece in _pieces(text, grammar, member):
        if isinstance(piece, str):
            if "<%=" in piece:
                raise InvalidRequest(f"A placeholder cannot stand there in a {grammar.name}", member=member)
            parts.append(piece)
            continue
        if piece.name not in values:
            raise InvalidRequest(f"The placeholder '{piece.name}' is not among the template's", member=member)
        try:
            parts.append(write(values[piece.name], piece.place))
        except _Unfit as error:
            message = f"Invalid value for template parameter '{piece.name}': {error}"
            raise InvalidRequest(message, member=f"params.{piece.name}") from error
    return "".join(parts)


class _Unfit(ValueError):
    """A value cannot stand at a place."""


def _in_sql(value: _Value, place: Place) -> str:
    kind, text = value
    if kind in ("sql_literal", "sql_ident") and place != "plain" and TOKEN.search(text):
        raise _Unfit("it must not hold a substitution token")
    match place:
        case "single":
            return text.replace("'", "''")
        case "double":
            return text.replace('"', '""')
        case _ if kind == "number":
            # A minus after another one would begin a comment.
            return f"({text})" if text.startswith("-") else text
        case _ if kind == "sql_ident":
            try:
                return quoted_name(text)
            except InvalidMapConfig as error:
                raise _Unfit(error.message) from error
        case _:
            return quoted_text(text)


def _in_style(value: _Value, place: Place) -> str:
    kind, text = value
    if kind in ("number", "css_color"):
        return text
    match place:
        case "url":
            if not _BARE_URL.fullmatch(text):
                raise _Unfit("it cannot stand in an address")
            return text
        case "plain" if kind == "sql_ident":
            if not _WORD.fullmatch(text):
                raise _Unfit("it cannot be the name of a field in a style")
            return text
        case _:
            if _NOT_IN_STYLE_STRING.search(text):
                raise _Unfit("a style has no way to write quotes, backslashes and control characters")
            return f'"{text}"' if place == "plain" else text


def _pieces(text: str, grammar: _Grammar, member: str) -> Iterator[str | _Spot]:
    """Yield the texts between placeholders, and the placeholders with their places."""
    place: Place = "plain"
    start = at = 0
    while match := grammar.places[place].search(text, at):
        at = match.end()
        match match.lastgroup:
            case "name":
                yield text[start : match.start()]
                yield _Spot(match["name"], place)
                start = at
            case "escape":
                message = "A query with placeholders must not hold escape strings such as E'...'"
                raise InvalidRequest(message, member=member)
            case "single" | "double" | "url" as begun:
                place = _PLACES[begun]
            case "end":
                place = "plain"
            case "line" | "block" | "dollar":
                at = _end_of_opaque(text, match)
            case _:
                pass
    yield text[start:]


_PLACES: Mapping[str, Place] = {"single": "single", "double": "double", "url": "url"}


def _end_of_opaque(text: str, match: re.Match[str]) -> int:
    """Return where a comment or a dollar-quoted text ends; a placeholder in it stays as it is, and is found later."""
    if match.lastgroup == "line":
        end = text.find("\n", match.end())
        return len(text) if end < 0 else end
    if match.lastgroup == "dollar":
        end = text.find(match[0], match.end())
        return len(text) if end < 0 else end + len(match[0])
    depth = 1
    at = match.end()
    while depth and (part := _NESTED.search(text, at)):
        depth += 1 if part[0] == "/*" else -1
        at = part.end()
    return len(text) if depth else at


def _check_elsewhere(layergroup: Mapping[str, Any]) -> None:
    """Refuse placeholders outside queries, styles and buffer sizes, where they would mean nothing."""
    stack: list[tuple[Any, tuple[str, ...]]] = [(layergroup, ("buffersize", "layers"))]
    for layer in layergroup["layers"]:
        stack += [(layer, ("options",)), (layer["options"], ("sql", "cartocss"))]
    while stack:
        value, exempt = stack.pop()
        if isinstance(value, str) and "<%=" in value:
            raise InvalidRequest(f"A placeholder cannot stand in {_shown(value)}", member="layergroup")
        if isinstance(value, dict):
            stack += [(inner, ()) for name, inner in value.items() if name not in exempt]
        elif isinstance(value, list):
            stack += [(inner, ()) for inner in value]


@cache
def _colours() -> frozenset[str]:
    text = (resources.files("flowmaps.cartocss") / "data" / "colors.json").read_text("utf-8")
    return frozenset(json.loads(text)) | {"transparent"}


def _shown(value: object) -> str:
    return (value if isinstance(value, str) else repr(value))[:100]
