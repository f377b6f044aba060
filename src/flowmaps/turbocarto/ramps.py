"""Turn each ramp of a stylesheet into a default and filters, once its classes are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from flowmaps.errors import InvalidRamp
from flowmaps.turbocarto.arguments import Argument, Call, MalformedRamp, Word, parse_call
from flowmaps.turbocarto.palettes import FAMILIES, palettes
from flowmaps.turbocarto.scanning import RAMP, Declaration, place, ramp_declarations, without_comments

METHODS = ("quantiles", "equal", "jenks", "headtails", "category")
DEFAULT_CLASSES = 5
MAX_CLASSES = 100
MAX_RAMPS = 64
_MAPPINGS = ("=", ">", ">=", "<", "<=")
_LAZY_MAPPINGS = {"quantiles": ">", "equal": ">", "jenks": ">", "headtails": "<", "category": "="}
_BARE_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}

Zip = Literal["max", "split", "exact"]
"""How turbo-carto's older forms pair limits with values: all; without the first limit; likewise, for equality."""
Limit = float | Decimal | str | bool | Word


class Question(NamedTuple):
    """What must be known of the data: the limits of *classes* classes of *column*, by one of `METHODS`."""

    column: str
    method: str
    classes: int


@dataclass(frozen=True, slots=True)
class Classes:
    """An answer: ascending upper limits, or categories, the most frequent first; and what legends show."""

    limits: tuple[Limit, ...]
    minimum: float | None = None
    maximum: float | None = None
    average: float | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The stylesheet without ramps, and its metadata: one rule for each ramp."""

    cartocss: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Values:
    """What a property gets: a list, a palette by size, or numbers evenly spread between two."""

    listed: tuple[float | Word, ...] = ()
    palette: Mapping[int, tuple[str, ...]] | None = None
    ends: tuple[float, float] | None = None
    default_size: int = 0

    @property
    def most(self) -> float:
        if self.ends is not None:
            return float("inf")
        return max(self.palette) if self.palette is not None else len(self.listed)

    def get(self, size: int = 0) -> tuple[float | Word, ...]:
        size = size or self.default_size
        if self.ends is not None:
            first, last = self.ends
            step = (last - first) / (size - 1) if size > 1 else 0.0
            return tuple(first + index * step for index in range(size))
        if self.palette is not None:
            colours = self.palette.get(size) or self.palette[self.default_size]
            return tuple(Word(colour, colour) for colour in colours)
        return self.listed[:size] if size else self.listed


@dataclass(frozen=True, slots=True)
class _Plan:
    """A ramp that was read: its values, its limits or the question for them, and how both are paired."""

    column: str
    values: _Values
    limits: tuple[Limit, ...] | None
    question: Question | None
    mapping: str | None
    zipped: Zip | None = None
    is_old_form: bool = False


@dataclass(frozen=True, slots=True)
class _Ramp:
    declaration: Declaration
    plan: _Plan


@dataclass(frozen=True, slots=True)
class Stylesheet:
    """A stylesheet whose ramps were read."""

    text: str
    ramps: tuple[_Ramp, ...] = ()
    questions: tuple[Question, ...] = field(default=())

    def resolve(self, answers: Mapping[Question, Classes]) -> Resolved:
        """Return the stylesheet with *answers* put in; raise `InvalidRamp` where values do not suffice."""
        parts: list[str] = []
        rules: list[dict[str, Any]] = []
        at = 0
        for ramp in self.ramps:
            declaration = ramp.declaration
            classes = None if ramp.plan.question is None else answers[ramp.plan.question]
            try:
                replacement, rule = _written(ramp, classes)
            except MalformedRamp as error:
                raise self.failure(ramp, str(error)) from error
            replaced = self.text[declaration.start : declaration.after]
            # As many lines as before, so that positions in later messages are right.
            parts += (self.text[at : declaration.start], replacement, "\n" * replaced.count("\n"))
            at = declaration.after
            rules.append(rule)
        parts.append(self.text[at:])
        return Resolved("".join(parts), {"rules": rules})

    def unanswerable(self, question: Question, reason: str) -> InvalidRamp:
        """Return the error of the first ramp that asks *question*, which the data could not answer."""
        ramp = next(ramp for ramp in self.ramps if ramp.plan.question == question)
        return self.failure(ramp, f"unable to compute ramp, {reason}")

    def failure(self, ramp: _Ramp, reason: str) -> InvalidRamp:
        return _failure(self.text, ramp.declaration, reason)


def read_ramps(text: str) -> Stylesheet:
    """Return the stylesheet with its ramps read; raise `InvalidRamp` with selector and position."""
    if not RAMP.search(text):
        return Stylesheet(text)
    clean = without_comments(text)
    declarations = list(ramp_declarations(clean))
    ramps: list[_Ramp] = []
    for declaration in declarations:
        try:
            if len(declarations) > MAX_RAMPS:
                raise MalformedRamp(f"the stylesheet has {len(declarations)} ramps, the limit is {MAX_RAMPS}")
            ramps.append(_Ramp(declaration, _plan(declaration)))
        except MalformedRamp as error:
            raise _failure(clean, declaration, str(error)) from error
    questions = tuple(dict.fromkeys(ramp.plan.question for ramp in ramps if ramp.plan.question is not None))
    return Stylesheet(clean if ramps else text, tuple(ramps), questions)


def _failure(text: str, declaration: Declaration, reason: str) -> InvalidRamp:
    return InvalidRamp(
        f'Failed to process "{declaration.name}" property: {reason}',
        selector=declaration.selector,
        start=place(text, declaration.start),
        end=place(text, declaration.end),
    )


def _plan(declaration: Declaration) -> _Plan:
    if declaration.name.startswith("@"):
        raise MalformedRamp("a variable cannot hold a ramp: write it at the property")
    call = parse_call(declaration.value)
    if call.name != "ramp":
        raise MalformedRamp("a ramp must be the whole value of a property")
    if len(call.arguments) < 2:
        raise MalformedRamp("invalid number of arguments")
    column = _column(call.arguments[0])
    arguments = call.arguments[1:]
    if isinstance(arguments[0], float):
        return _numeric_ramp(column, arguments)
    values = _values(arguments[0])
    filters = arguments[1] if len(arguments) > 1 else None
    if not isinstance(filters, Call):
        method = "quantiles" if filters is None else _method(filters)
        return _Plan(column, values, None, Question(column, method, len(values.get())), None, is_old_form=True)
    mapping, zipped = _mapping(arguments[2] if len(arguments) > 2 else None)
    if filters.name in METHODS:
        question = Question(column, filters.name, _count(filters.arguments, 0))
        return _Plan(column, values, None, question, mapping or _LAZY_MAPPINGS[filters.name], zipped)
    if filters.name == "buckets":
        return _Plan(column, values, None, _buckets(filters), None, is_old_form=False, zipped="max")
    if filters.name:
        raise MalformedRamp(f'"{filters.name}" does not give filters; known are {", ".join(METHODS)} and buckets')
    return _Plan(column, values, _limits(filters), None, mapping, zipped)


def _column(argument: Argument) -> str:
    name = argument.text if isinstance(argument, Word) else ""
    name = name.removeprefix("[").removesuffix("]").strip()
    if not name or '"' in name or "\\" in name or len(name.encode()) > 63:
        raise MalformedRamp("the first argument must name a column")
    return name


def _numeric_ramp(column: str, arguments: Sequence[Argument]) -> _Plan:
    """Read the older forms ``min, max [, number] [, method or (limits)]``."""
    if len(arguments) < 2 or not isinstance(arguments[1], float) or not isinstance(arguments[0], float):
        raise MalformedRamp("invalid number of arguments")
    rest = arguments[2:]
    classes = None
    if rest and isinstance(rest[0], float):
        classes, rest = _whole(rest[0]), rest[1:]
    ends = (arguments[0], arguments[1])
    if rest and isinstance(rest[0], Call):
        if rest[0].name:
            raise MalformedRamp(f'write range(min, max) before "{rest[0].name}"')
        limits = _limits(rest[0])
        if classes is not None and len(limits) != classes:
            raise MalformedRamp(f"invalid ramp length, got {len(limits)} values, expected {classes}")
        values = _Values(ends=ends, default_size=len(limits))
        return _Plan(column, values, limits, None, None, "max", is_old_form=True)
    classes = DEFAULT_CLASSES if classes is None else classes
    method = _method(rest[0]) if rest else "quantiles"
    question = Question(column, method, classes)
    return _Plan(column, _Values(ends=ends, default_size=classes), None, question, None, is_old_form=True)


def _values(argument: Argument) -> _Values:
    if not isinstance(argument, Call):
        raise MalformedRamp("the second argument must be values: a tuple, a palette or range()")
    if argument.name in FAMILIES:
        return _palette(argument)
    if argument.name == "range":
        ends = argument.arguments[:2]
        if len(ends) < 2 or not isinstance(ends[0], float) or not isinstance(ends[1], float):
            raise MalformedRamp("range() needs two numbers")
        return _Values(ends=(ends[0], ends[1]), default_size=_count(argument.arguments, 2))
    if argument.name:
        raise MalformedRamp(f'"{argument.name}" does not give values; known are {", ".join(FAMILIES)} and range')
    if not argument.arguments:
        raise MalformedRamp("a ramp needs values")
    listed = tuple(Word(item.source, item.source) if isinstance(item, Call) else item for item in argument.arguments)
    return _Values(listed=listed, default_size=len(listed))


def _palette(call: Call) -> _Values:
    name = call.arguments[0] if call.arguments else None
    known = palettes(call.name)
    if not isinstance(name, Word) or name.text not in known:
        shown = name.text[:40] if isinstance(name, Word) else ""
        raise MalformedRamp(f'Invalid {call.name} scheme: "{shown}"')
    palette = known[name.text]
    size = _count(call.arguments, 1)
    return _Values(palette=palette, default_size=min(max(palette), max(min(palette), size)))


def _limits(call: Call) -> tuple[Limit, ...]:
    return tuple(Word(item.source, item.source) if isinstance(item, Call) else item for item in call.arguments)


def _count(arguments: Sequence[Argument], index: int) -> int:
    """Return the number of classes that is given at *index*, or the default."""
    if index >= len(arguments):
        return DEFAULT_CLASSES
    given = arguments[index]
    if not isinstance(given, float):
        raise MalformedRamp("the number of classes must be a number")
    return _whole(given)


def _whole(given: float) -> int:
    if not given.is_integer() or not 1 <= given <= MAX_CLASSES:
        raise MalformedRamp(f"the number of classes must be whole, from 1 to {MAX_CLASSES}")
    return int(given)


def _method(argument: Argument) -> str:
    name = argument.text.lower() if isinstance(argument, Word) else ""
    if name not in METHODS:
        shown = argument.text[:40] if isinstance(argument, Word) else ""
        raise MalformedRamp(f'unable to compute ramp, Invalid method "{shown}", valid methods: [{",".join(METHODS)}]')
    return name


def _mapping(argument: Argument | None) -> tuple[str | None, Zip | None]:
    """Return the mapping that is given, or the older way of pairing that a method's name stands for."""
    if argument is None:
        return None, None
    text = argument.text if isinstance(argument, Word) else ""
    text = "=" if text == "==" else text
    if text in _MAPPINGS:
        return text, None
    if text.lower() in METHODS:
        return None, _zip_of(text.lower())
    raise MalformedRamp(f'Invalid mapping "{text[:40]}", valid mappings: {", ".join(_MAPPINGS)}')


def _zip_of(method: str) -> Zip:
    return "split" if method == "headtails" else "exact" if method == "category" else "max"


def _buckets(call: Call) -> Question:
    if len(call.arguments) < 2:
        raise MalformedRamp("Missing quantification method in buckets function")
    return Question(_column(call.arguments[0]), _method(call.arguments[1]), _count(call.arguments, 2))


def _written(ramp: _Ramp, classes: Classes | None) -> tuple[str, dict[str, Any]]:
    """Return the text that takes the declaration's place, and its metadata."""
    plan = ramp.plan
    limits = tuple((classes.limits if classes else plan.limits) or ())
    values, mapping, zipped = plan.values, plan.mapping, plan.zipped
    if plan.question is not None and (plan.is_old_form or (zipped and mapping is None)):
        zipped = _zip_of(plan.question.method)
    if any(_is_category(limit) for limit in limits):
        # Only numbers have an order.
        mapping, zipped = ("=", "exact" if plan.is_old_form else None)
    if zipped is not None:
        values, limits, mapping = _paired(values, limits, zipped, is_old_form=plan.is_old_form)
    if mapping == "=":
        default, pairs, buckets = _equality(values, limits)
    elif mapping in ("<", "<="):
        default, pairs, buckets = _less(values, limits, classes)
    else:
        default, pairs, buckets = _greater(values, limits, classes)
    mapping = mapping or ">"
    name, column = ramp.declaration.name, _field(plan.column)
    blocks = [
        f"[{column} {mapping} {_limit_text(limit)}] {{ {name}: {_value_text(value)}; }}" for limit, value in pairs
    ]
    if default is not None:
        blocks.insert(0, f"{name}: {_value_text(default)};")
    stats = {} if mapping == "=" else {"filter_avg": classes.average if classes else None}
    return " ".join(blocks), {
        "selector": ramp.declaration.selector,
        "prop": name,
        "column": plan.column,
        "mapping": mapping,
        "buckets": buckets,
        "stats": stats,
    }


_Pairs = list[tuple[Limit, float | Word]]
_Drawn = tuple[float | Word | None, _Pairs, list[dict[str, Any]]]


def _paired(
    values: _Values, limits: tuple[Limit, ...], zipped: Zip, *, is_old_form: bool
) -> tuple[_Values, tuple[Limit, ...], str]:
    """Return values and limits as turbo-carto's older forms pair them."""
    most = len(values.get()) if is_old_form else values.most
    size = int(min(most, len(limits)))
    # The first value alone is left where there is no limit.
    listed = (values.get() if is_old_form else values.get(size))[: size or 1]
    limits = limits[:size]
    if zipped == "split":
        limits = limits[1:]
    elif zipped == "exact":
        limits, listed = limits[1:], (*listed[1:], listed[0])
    paired = _Values(listed=listed, default_size=len(listed))
    return paired, limits, "=" if zipped == "exact" else ">"


def _equality(values: _Values, limits: tuple[Limit, ...]) -> _Drawn:
    if len(limits) > values.most:
        raise MalformedRamp("`=` requires more or same values than filters to work.")
    listed = values.get(len(limits) + 1)
    default = listed[-1] if len(listed) != len(limits) else None
    pairs = list(zip(limits, listed, strict=False))
    buckets: list[dict[str, Any]] = [
        {"filter": {"name": _shown(limit), "type": "category"}, "value": _shown(value)} for limit, value in pairs
    ]
    if default is not None:
        buckets.append({"filter": {"type": "default"}, "value": _shown(default)})
    return default, pairs, buckets


def _greater(values: _Values, limits: tuple[Limit, ...], classes: Classes | None) -> _Drawn:
    size = int(min(values.most, len(limits)))
    listed = values.get(size + 1 if size <= 1 else size)
    limits = limits[:size]
    used = limits[:-1]
    return listed[0], list(zip(used, listed[1:], strict=False)), _ranges(used, listed, listed[len(used)], classes)


def _less(values: _Values, limits: tuple[Limit, ...], classes: Classes | None) -> _Drawn:
    """Return the blocks of ``<``, with the largest limit first, as a later block outranks an earlier one.

    turbo-carto pairs each value with the limit after its own here, so that its map contradicts its own metadata.
    """
    listed = values.get(len(limits))
    used = limits[: max(0, min(len(listed), len(limits)) - 1)]
    pairs = list(zip(used, listed, strict=False))[::-1]
    return listed[-1], pairs, _ranges(used, listed, listed[-1], classes)


def _ranges(
    used: Sequence[Limit], listed: Sequence[float | Word], last: float | Word, classes: Classes | None
) -> list[dict[str, Any]]:
    start: Any = classes.minimum if classes else None
    buckets: list[dict[str, Any]] = []
    for limit, value in zip(used, listed, strict=False):
        buckets.append({"filter": {"type": "range", "start": start, "end": _shown(limit)}, "value": _shown(value)})
        start = _shown(limit)
    end = classes.maximum if classes else None
    buckets.append({"filter": {"type": "range", "start": start, "end": end}, "value": _shown(last)})
    return buckets


def _is_category(limit: Limit) -> bool:
    return isinstance(limit, str | bool | Word)


def _field(column: str) -> str:
    return column if _BARE_FIELD.fullmatch(column) and column != "zoom" else f'"{column}"'


def _limit_text(limit: Limit) -> str:
    if isinstance(limit, bool):
        return "true" if limit else "false"
    if isinstance(limit, Word):
        return limit.text if limit.text in ("true", "false") else _quoted(limit.text)
    return _quoted(limit) if isinstance(limit, str) else number_text(limit)


def _value_text(value: float | Word) -> str:
    return value.source if isinstance(value, Word) else number_text(value)


def _shown(value: Limit) -> float | str | bool:
    """Return a value as it is in JSON."""
    if isinstance(value, Word):
        return value.text
    if isinstance(value, Decimal):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def number_text(number: float | Decimal) -> str:
    """Return a number as CartoCSS writes it, with all its digits."""
    if isinstance(number, Decimal):
        text = format(number.normalize(), "f")
        return text if len(text) <= 40 else number_text(float(number))
    is_whole = isinstance(number, int) or (number.is_integer() and abs(number) < 1e21)
    return str(int(number)) if is_whole else repr(number)


def _quoted(text: str) -> str:
    """Return *text* as a string whose escapes Mapnik decodes."""
    safe = "".join(
        _ESCAPES.get(character) or (f"\\x{ord(character):02x}" if character < " " else character) for character in text
    )
    return f'"{safe}"'
