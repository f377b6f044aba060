"""Evaluate the expressions of a stylesheet to values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowmaps.cartocss.color import from_rgb
from flowmaps.cartocss.functions import FUNCTIONS, BadArguments
from flowmaps.cartocss.reference import TRANSFORMS, Reference, nearest
from flowmaps.cartocss.source import Limits
from flowmaps.cartocss.tree import (
    CallNode,
    ColorNode,
    FieldNode,
    GroupNode,
    KeywordNode,
    ListNode,
    NegationNode,
    Node,
    NumberNode,
    OperationNode,
    StringNode,
    Stylesheet,
    UrlNode,
    VariableNode,
)
from flowmaps.cartocss.values import (
    ATOM,
    SUM,
    UNDEFINED,
    ArithmeticProblem,
    Call,
    Field,
    Items,
    Keyword,
    Number,
    String,
    Undefined,
    Uri,
    Value,
    operate,
    size_of,
)

_PER_INCH = {"m": 0.0254, "cm": 2.54, "mm": 25.4, "pt": 72.0, "pc": 6.0, "in": 1.0}
MAX_NODES = 200_000
MAX_DEPTH = 200


class Problem(Exception):
    """An expression cannot be evaluated."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.text = text
        self.offset = offset


class Evaluator:
    """Evaluate nodes; variables are looked up in one flat namespace, also before their definition."""

    def __init__(
        self, variables: Mapping[str, Node], reference: Reference, ppi: float, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._known: dict[str, Value] = {}
        self.broken: frozenset[str] = frozenset()
        self._depth = 0
        self._variables = variables
        self._reference = reference
        self._ppi = ppi
        self._open: list[str] = []
        self._steps = 0

    def evaluate(self, node: Node) -> Value:
        """Return the value of *node*; raise `Problem`."""
        self._steps += 1
        if self._steps > MAX_NODES:
            raise Problem(f"Evaluation takes more than {MAX_NODES} steps", node.offset)
        if self._depth >= MAX_DEPTH:
            raise Problem(f"Values refer to each other through more than {MAX_DEPTH} steps", node.offset)
        self._depth += 1
        try:
            value = self._evaluate(node)
        finally:
            self._depth -= 1
        if isinstance(value, String | Field) and len(value.text) > self._limits.string_chars:
            text = f"A string has more than {self._limits.string_chars} characters (string_chars)"
            raise Problem(text, node.offset)
        return value

    def _evaluate(self, node: Node) -> Value:
        match node:
            case NumberNode(value, unit, _):
                return self._number(value, unit)
            case StringNode(text, _):
                return String(text)
            case KeywordNode(text, _):
                return Keyword(text)
            case ColorNode(channels, alpha, _):
                return from_rgb(*channels, alpha)
            case FieldNode(name, _):
                return Field(f"[{name}]")
            case VariableNode(name, offset):
                return self._variable(name, offset)
            case UrlNode(text, variable, offset):
                return self._url(text, variable, offset)
            case CallNode():
                return self._call(node)
            case OperationNode(operator, left, right, offset):
                one, other = self.evaluate(left), self.evaluate(right)
                try:
                    return operate(operator, one, other)
                except ArithmeticProblem as problem:
                    raise Problem(str(problem), offset) from None
            case NegationNode(operand, offset):
                return self._negate(self.evaluate(operand), offset)
            case GroupNode(inner, _):
                grouped = self.evaluate(inner)
                if isinstance(grouped, Field) and grouped.level < ATOM:
                    return Field(f"({grouped.text})")
                return grouped
            case ListNode(items, separator, _):
                values = tuple(self.evaluate(item) for item in items)
                return Items(values, separator, self._size(values, node))

    def _size(self, values: Iterable[Value], node: Node) -> int:
        size = sum(size_of(value) for value in values)
        if size > self._limits.value_items:
            raise Problem(f"A value has more than {self._limits.value_items} items (value_items)", node.offset)
        return size

    def _number(self, value: float, unit: str) -> Number:
        if unit in _PER_INCH:
            return Number(value / _PER_INCH[unit] * self._ppi, "px")
        return Number(value, unit)

    def _variable(self, name: str, offset: int) -> Value:
        if name in self._known:
            return self._known[name]
        if name not in self._variables:
            if name in self.broken:
                return UNDEFINED
            closest = nearest(name, self._variables, below=3)
            hint = f". Did you mean {closest}?" if closest else ""
            raise Problem(f"variable {name} is undefined{hint}", offset)
        if name in self._open:
            raise Problem(f"variable {name} is recursive", offset)
        self._open.append(name)
        try:
            value = self.evaluate(self._variables[name])
        finally:
            self._open.pop()
        self._known[name] = value
        return value

    def _url(self, text: str, variable: str | None, offset: int) -> Value:
        if variable is None:
            return Uri(text)
        value = self._variable(variable, offset)
        return value if isinstance(value, Uri | Undefined) else Uri(value.text)

    def _negate(self, value: Value, offset: int) -> Value:
        match value:
            case Number(number, unit):
                return Number(-number, unit)
            case Field(text, level):
                return Field(f"-{text}" if level == ATOM else f"-({text})", SUM)
            case Undefined():
                return UNDEFINED
            case _:
                raise Problem(f"Cannot do math with type {value.kind}.", offset)

    def _call(self, node: CallNode) -> Value:
        name = node.name
        known = (FUNCTIONS, TRANSFORMS, self._reference.image_filters, ("stop",))
        if not any(name in names for names in known):
            raise self._unknown(node)
        arguments = tuple(self.evaluate(argument) for argument in node.arguments)
        if any(isinstance(argument, Undefined) for argument in arguments):
            return UNDEFINED
        size = self._size(arguments, node)
        if name in FUNCTIONS:
            return self._compute(node, arguments)
        if name == "stop":
            if not 1 <= len(arguments) <= 3:
                raise Problem(f"function stop() takes 1,2,3 arguments and was given {len(arguments)}", node.offset)
            return Call(name, arguments, "tag", size)
        if name in TRANSFORMS:
            _check_arity(node, TRANSFORMS[name])
            return Call(name, arguments, "transform", size)
        arity = self._reference.image_filters[name]
        if arity >= 0:
            _check_arity(node, (arity,))
        return Call(name, arguments, "imagefilter", size)

    def _compute(self, node: CallNode, arguments: tuple[Value, ...]) -> Value:
        try:
            return FUNCTIONS[node.name][1](arguments)
        except BadArguments as problem:
            if problem.expected is not None:
                text = f"incorrect number of arguments for {node.name}(). {problem.expected} expected."
            else:
                text = f"incorrect arguments given to {node.name}()"
            raise Problem(text, node.offset) from None

    def _unknown(self, node: CallNode) -> Problem:
        arities = {name: str(count) for name, (count, _) in FUNCTIONS.items()}
        arities |= {name: "any" if count < 0 else str(count) for name, count in self._reference.image_filters.items()}
        arities |= {name: ",".join(map(str, counts)) for name, counts in TRANSFORMS.items()}
        closest = nearest(node.name, arities, below=max(3, len(node.name)))
        hint = f", did you mean {closest}({arities[closest]})" if closest else ""
        return Problem(f"unknown function {node.name}(){hint}", node.offset)


def _check_arity(node: CallNode, counts: tuple[int, ...]) -> None:
    if len(node.arguments) not in counts:
        takes = ",".join(map(str, counts))
        raise Problem(
            f"function {node.name}() takes {takes} arguments and was given {len(node.arguments)}", node.offset
        )


def first_definitions(sheet: Stylesheet) -> tuple[dict[str, Node], list[tuple[str, int]]]:
    """Return each variable's first definition, which counts, and the later ones with their offsets."""
    variables: dict[str, Node] = {}
    repeated: list[tuple[str, int]] = []
    for declaration in sheet.variables:
        if declaration.property in variables:
            repeated.append((declaration.property, declaration.offset))
        else:
            variables[declaration.property] = declaration.value
    return variables, repeated
