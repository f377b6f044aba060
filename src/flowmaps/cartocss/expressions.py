"""Read the expressions that Mapnik evaluates while it draws: fields, arithmetic, comparisons, functions.

Used where Mapnik itself is not at hand, to tell an expression from plain text, to find the fields that it needs, and
to evaluate it directly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flowmaps.cartocss.regex import BadRegex, decode, translate

Scalar = None | bool | int | float | str
Compiled = Callable[[Mapping[str, Scalar]], Scalar]
MAX_DEPTH: Final = 64

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d*\.?\d+(?:[eE][-+]?\d+)?(?!\.))|(?P<string>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")"
    r"|(?P<field>\[[^\]]+\])|(?P<variable>@[A-Za-z_][A-Za-z0-9_]*(?!\w))|(?P<word>[A-Za-z_][A-Za-z0-9_]*(?!\w))"
    r"|(?P<op>\.match|\.replace|!=|<>|<=|>=|&&|\|\||[-+*/%=<>!(),]))",
    re.DOTALL,
)
_WORDS: dict[str, Scalar] = {
    "true": True,
    "false": False,
    "null": None,
    "point": 1,
    "linestring": 2,
    "polygon": 3,
    "collection": 4,
}
_FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    "sin": (1, math.sin),
    "cos": (1, math.cos),
    "tan": (1, math.tan),
    "atan": (1, math.atan),
    "exp": (1, math.exp),
    "log": (1, math.log),
    "abs": (1, abs),
    "length": (1, lambda value: len(str(value))),
    "min": (2, min),
    "max": (2, max),
    "pow": (2, math.pow),
}
_WORD_STARTS = (
    *_WORDS,
    "not",
    "and",
    "or",
    "eq",
    "neq",
    "is",
    "lt",
    "le",
    "gt",
    "ge",
    "pi",
    "deg_to_rad",
    "rad_to_deg",
)
_EQUALITY = {"=": True, "eq": True, "is": True, "!=": False, "<>": False, "neq": False}
_ORDER = {"<": "<", "lt": "<", "<=": "<=", "le": "<=", ">": ">", "gt": ">", ">=": ">=", "ge": ">="}


class NotAnExpression(ValueError):
    """The text is not an expression of Mapnik."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def fields(text: str) -> list[str]:
    """Return the names of the fields in *text*, in order, each once; strings in quotes are not looked at."""
    names: dict[str, None] = {}
    for match in re.finditer(r"'(?:\\.|[^'\\])*'|\[([^\]]+)\]", text):
        if match[1]:
            names[match[1]] = None
    return list(names)


def is_expression(text: str) -> bool:
    """Tell whether Mapnik reads *text* as an expression; one bare word counts as one."""
    try:
        compile_expression(text)
    except NotAnExpression:
        return False
    return True


def compile_expression(text: str) -> Compiled:
    """Return a function from a feature's fields to the value of *text*; raise `NotAnExpression`."""
    tokens = list(_tokens(text))
    if len(tokens) == 1 and tokens[0].kind == "word" and tokens[0].text not in (text, *_WORDS):
        raise NotAnExpression("a word alone is text only where no blank is beside it")
    parser = _Parser(tokens)
    result = parser.logical()
    if parser.peek() is not None:
        raise NotAnExpression(text)
    return result


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None or match.lastgroup is None:
            raise NotAnExpression(text)
        at = match.end()
        yield _Token(match.lastgroup, match[match.lastgroup])


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def peek(self) -> str | None:
        return self._tokens[self._at].text if self._at < len(self._tokens) else None

    def _take(self, *texts: str) -> str | None:
        token = self.peek()
        if token is not None and token in texts and self._tokens[self._at].kind in ("op", "word"):
            self._at += 1
            return token
        return None

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            raise NotAnExpression(text)

    def logical(self) -> Compiled:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotAnExpression("too deep")
        left = self._negation()
        while (word := self._take("and", "&&", "or", "||")) is not None:
            right = self._negation()
            left = _both(left, right) if word in ("and", "&&") else _either(left, right)
        self._depth -= 1
        return left

    def _negation(self) -> Compiled:
        if self._take("not", "!") is not None:
            inner = self._comparison()
            return lambda feature: not inner(feature)
        return self._comparison()

    def _comparison(self) -> Compiled:
        left = self._sum()
        while (word := self._take(*_EQUALITY, *_ORDER)) is not None:
            right = self._sum()
            left = _comparing(word, left, right)
        return left

    def _sum(self) -> Compiled:
        left = self._product()
        while (word := self._take("+", "-")) is not None:
            left = _arithmetic(word, left, self._product())
        return left

    def _product(self) -> Compiled:
        left = self._unary()
        while (word := self._take("*", "/", "%", ".match", ".replace")) is not None:
            left = self._regex(word, left) if word.startswith(".") else _arithmetic(word, left, self._unary())
        return left

    def _regex(self, word: str, left: Compiled) -> Compiled:
        self._need("(")
        try:
            pattern = re.compile(translate(self._string()))
        except BadRegex as problem:
            raise NotAnExpression(str(problem)) from None
        if word == ".match":
            self._need(")")
            return lambda feature: pattern.fullmatch(as_text(left(feature))) is not None
        self._need(",")
        replacement = self._string()
        self._need(")")
        return lambda feature: pattern.sub(replacement, as_text(left(feature)))

    def _string(self) -> str:
        if self._at >= len(self._tokens) or self._tokens[self._at].kind != "string":
            raise NotAnExpression("a string is expected")
        self._at += 1
        return decode(self._tokens[self._at - 1].text[1:-1])

    def _unary(self) -> Compiled:
        if self._take("-") is not None:
            inner = self._primary()
            return _arithmetic("-", lambda _: 0, inner)
        self._take("+")
        return self._primary()

    def _primary(self) -> Compiled:
        if self._at >= len(self._tokens):
            raise NotAnExpression("something is missing at the end")
        token = self._tokens[self._at]
        if token.kind == "string":
            text = self._string()
            return lambda _: text
        self._at += 1
        if token.kind == "number":
            number = float(token.text)
            return lambda _: number
        if token.kind in ("field", "variable"):
            name = token.text[1:-1] if token.kind == "field" else token.text
            return lambda feature: feature.get(name)
        if token.kind == "word":
            return self._word(token.text)
        if token.text == "(":
            inner = self.logical()
            self._need(")")
            return inner
        raise NotAnExpression(token.text)

    def _word(self, word: str) -> Compiled:
        if word in _FUNCTIONS and self._take("("):
            arity, function = _FUNCTIONS[word]
            arguments = [self._sum()]
            while self._take(","):
                arguments.append(self._sum())
            self._need(")")
            if len(arguments) != arity:
                raise NotAnExpression(word)
            return lambda feature: function(*(argument(feature) for argument in arguments))
        if word in _WORDS:
            value = _WORDS[word]
            return lambda _: value
        # A word alone is text, but one that starts like a keyword or holds a function's name is refused by Mapnik.
        if len(self._tokens) > 1 or word.startswith(_WORD_STARTS) or any(name in word for name in _FUNCTIONS):
            raise NotAnExpression(word)
        return lambda _: word


def _both(left: Compiled, right: Compiled) -> Compiled:
    return lambda feature: bool(left(feature)) and bool(right(feature))


def _either(left: Compiled, right: Compiled) -> Compiled:
    return lambda feature: bool(left(feature)) or bool(right(feature))


def _comparing(word: str, left: Compiled, right: Compiled) -> Compiled:
    if word in _EQUALITY:
        if _EQUALITY[word]:
            return lambda feature: equal(left(feature), right(feature))
        return lambda feature: unequal(left(feature), right(feature))
    order = _ORDER[word]
    return lambda feature: ordered(order, left(feature), right(feature))


def equal(left: Scalar, right: Scalar) -> bool:
    """Compare as Mapnik does: numbers with numbers, text with text; a number never equals text."""
    if isinstance(left, str) or isinstance(right, str):
        return isinstance(left, str) and isinstance(right, str) and left == right
    if left is None or right is None:
        return left is right
    return left == right


def unequal(left: Scalar, right: Scalar) -> bool:
    """Compare as Mapnik does: null on the left is not unequal to the empty text, though not equal to it either."""
    if left is None and right == "":
        return False
    return not equal(left, right)


def ordered(operator: str, left: Scalar, right: Scalar) -> bool:
    """Tell whether *left operator right* holds; a number and text, or null, are in no order."""
    if left is None or right is None or isinstance(left, str) != isinstance(right, str):
        return False
    match operator:
        case "<":
            return left < right  # type: ignore[operator]
        case "<=":
            return left <= right  # type: ignore[operator]
        case ">":
            return left > right  # type: ignore[operator]
        case _:
            return left >= right  # type: ignore[operator]


def as_text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _arithmetic(operator: str, left: Compiled, right: Compiled) -> Compiled:
    def compute(feature: Mapping[str, Scalar]) -> Scalar:
        one, other = left(feature), right(feature)
        if isinstance(one, str) or isinstance(other, str):
            return as_text(one) + as_text(other) if operator == "+" else one
        one, other = one or 0, other or 0
        match operator:
            case "+":
                return one + other
            case "-":
                return one - other
            case "*":
                return one * other
            case "/":
                return one / other if other else 0
            case _:
                return math.fmod(one, other) if other else 0

    return compute
