"""Parse CartoCSS text into the tree, by recursive descent over one string.

Three tokens need to know what stands around them: ``#`` (id or colour), ``[`` (filter or field) and ``-`` (sign or
operator). Text that does not parse is always reported, never dropped; parsing goes on after it to report more.
"""

from __future__ import annotations

import math
import re
from typing import Final, cast

from flowmaps.cartocss.reference import color_channels
from flowmaps.cartocss.source import Report
from flowmaps.cartocss.tree import (
    CallNode,
    ColorNode,
    Comparison,
    Declaration,
    FieldNode,
    FilterNode,
    GroupNode,
    KeywordNode,
    ListNode,
    NegationNode,
    Node,
    NumberNode,
    OperationNode,
    Operator,
    Ruleset,
    Selector,
    StringNode,
    Stylesheet,
    UrlNode,
    VariableNode,
    ZoomNode,
)

BLANKS: Final = " \t\n\r\f"
_SKIPPED: Final = frozenset((*BLANKS, "/"))
UNITS: Final = ("px", "%", "m", "cm", "mm", "in", "pt", "pc")

_SKIP = re.compile(r"(?:[ \t\n\r\f]+|/\*.*?\*/|//[^\n]*)+", re.DOTALL)
_STRING = re.compile(r'"((?:\\[^\n]|[^"\\\n])*)"|\'((?:\\[^\n]|[^\'\\\n])*)\'')
_NUMBER = re.compile(r"-?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?")
_UNIT = re.compile(r"%|[A-Za-z]\w*", re.ASCII)
_HEX = re.compile(r"#([0-9a-fA-F]+)(?![\w-])", re.ASCII)
_FIELD = re.compile(r"\[([^\]\n]*)\]")
_VARIABLE = re.compile(r"@[A-Za-z0-9_-]+")
_KEYWORD = re.compile(r"[A-Za-z-]+[A-Za-z0-9_-]*")
_CALL = re.compile(r"([\w-]+|%)\(", re.ASCII)
_URL_BARE = re.compile(r"[-\w%@$/.&=:;#+?~]*", re.ASCII)
_PROPERTY = re.compile(r"(?:([a-z][-a-z_0-9]*)/)?(-?[-a-z_0-9]+)[ \t\n\r\f]*:(?!:)")
_DEFINITION = re.compile(r"(@[A-Za-z0-9_-]+)[ \t\n\r\f]*:")
_NAME = re.compile(r"[\w-]+", re.ASCII)
_ATTACHMENT = re.compile(r"::([\w-]+(?:/[\w-]+)*)", re.ASCII)
_WORD_KEY = re.compile(r"[A-Za-z0-9_-]+")
_COMPARISON = re.compile(r"=~|!=|<=|>=|=|<|>")
_MAP = re.compile(r"Map(?![\w-])", re.ASCII)
_STRUCTURE = re.compile(
    r"/\*.*?(?:\*/|(?P<open>\Z))|//[^\n]*|" + _STRING.pattern + r"|url\([^)\n]*\)|(?P<brace>[{}])", re.DOTALL
)


class _Invalid(Exception):
    """The text at *offset* does not parse; *text* says more than "Invalid code" where something is known."""

    def __init__(self, offset: int, text: str = "") -> None:
        super().__init__(text)
        self.offset = offset
        self.text = text


def parse(report: Report) -> Stylesheet:
    """Return the tree of *report*'s text, without what does not parse; syntax errors are noted in the report.

    Raise `CartoError` at once where braces or comments are not closed, or at a limit.
    """
    _check_structure(report)
    report.stop()
    return _Parser(report).stylesheet()


def _check_structure(report: Report) -> None:
    """Refuse unclosed comments and unbalanced braces: after those, nothing else can be said with certainty."""
    depth = 0
    for match in _STRUCTURE.finditer(report.text):
        if match["open"] is not None:
            report.error(f"Invalid code: {_line_of(report.text, match.start())}", match.start())
            return
        if match["brace"] == "{":
            depth += 1
            if depth > report.limits.block_depth:
                limit = f"Blocks are nested deeper than {report.limits.block_depth} (block_depth)"
                raise report.refuse(limit, match.start())
        elif match["brace"] == "}":
            depth -= 1
            if depth < 0:
                report.error("missing opening `{`", match.start())
                return
    if depth:
        report.error("missing closing `}`", len(report.text))


def _line_of(text: str, offset: int) -> str:
    """Return the text from *offset* through the next semicolon, or to the end of the line."""
    semicolon = text.find(";", offset)
    newline = text.find("\n", offset)
    if semicolon >= 0 and (newline < 0 or semicolon < newline):
        end = semicolon + 1
    else:
        end = newline if newline >= 0 else len(text)
    return text[offset : min(end, offset + 200)]


class _Parser:
    def __init__(self, report: Report) -> None:
        self.report = report
        self.text = report.text
        self.at = 0
        self.depth = 0
        self.operators = 0
        self.declarations = 0

    # --- statements

    def stylesheet(self) -> Stylesheet:
        sheet = Stylesheet()
        while self._skip() < len(self.text):
            match = None
            try:
                if (match := _DEFINITION.match(self.text, self.at)) is not None:
                    sheet.variables.append(self._declaration(match, "", match[1]))
                elif (match := _PROPERTY.match(self.text, self.at)) is not None:
                    sheet.properties.append(self._declaration(match, match[1] or "", match[2]))
                else:
                    sheet.rulesets.append(self._ruleset())
            except _Invalid as problem:
                if match is not None:
                    sheet.broken.add(match[1])
                self._recover(problem)
                if self.text.startswith("}", self.at):
                    self.at += 1
        return sheet

    def _block(self, ruleset: Ruleset) -> None:
        """Parse declarations and nested rulesets through the closing brace."""
        while True:
            self._skip()
            if self.text.startswith("}", self.at):
                ruleset.end = self.at
                self.at += 1
                return
            try:
                self._statement(ruleset)
            except _Invalid as problem:
                self._recover(problem)

    def _statement(self, ruleset: Ruleset) -> None:
        if (match := _PROPERTY.match(self.text, self.at)) is not None:
            self.declarations += 1
            if self.declarations > self.report.limits.declarations:
                limit = f"More than {self.report.limits.declarations} declarations (declarations)"
                raise self.report.refuse(limit, self.at)
            ruleset.declarations.append(self._declaration(match, match[1] or "", match[2]))
        elif (match := _DEFINITION.match(self.text, self.at)) is not None:
            offset = self.at
            self._declaration(match, "", match[1])
            self.report.error(f"Unrecognized rule: {match[1]}. Variables are defined at the top level only", offset)
        else:
            ruleset.rulesets.append(self._ruleset())

    def _declaration(self, match: re.Match[str], instance: str, name: str) -> Declaration:
        offset = self.at
        self.at = match.end()
        self.operators = 0
        value = self._list()
        self._skip()
        if self.text.startswith(";", self.at):
            self.at += 1
        elif self.at < len(self.text) and self.text[self.at] != "}":
            raise _Invalid(self.at)
        return Declaration(instance, name, value, offset)

    def _ruleset(self) -> Ruleset:
        offset = self.at
        selectors = [self._selector()]
        while self.text.startswith(",", self._skip()):
            self.at += 1
            if self.text.startswith("{", self._skip()):
                break
            selectors.append(self._selector())
            if len(selectors) > self.report.limits.selectors_per_ruleset:
                limit = f"More than {self.report.limits.selectors_per_ruleset} selectors (selectors_per_ruleset)"
                raise self.report.refuse(limit, offset)
        if not self.text.startswith("{", self.at):
            raise _Invalid(self.at if self.at < len(self.text) else offset)
        self.at += 1
        ruleset = Ruleset(tuple(selectors), offset)
        self._block(ruleset)
        return ruleset

    def _recover(self, problem: _Invalid) -> None:
        """Report *problem* and move behind it: after a semicolon, a line or a block, or before a closing brace."""
        text = problem.text or f"Invalid code: {_line_of(self.text, problem.offset)}"
        self.report.error(text, problem.offset)
        self.depth = 0
        self.at = max(self.at, problem.offset)
        depth = 0
        while self.at < len(self.text):
            if (match := _STRUCTURE.match(self.text, self.at)) is not None and match["brace"] is None:
                self.at = match.end()
                continue
            char = self.text[self.at]
            if char == "}" and depth == 0:
                return
            self.at += 1
            if char == "{":
                depth += 1
            elif char == "}":
                depth -= 1
            if depth == 0 and char in ";\n}":
                return

    # --- selectors

    def _selector(self) -> Selector:
        offset = self._skip()
        ids: list[str] = []
        classes: list[str] = []
        zooms: list[ZoomNode] = []
        filters: list[FilterNode] = []
        attachment = ""
        is_map = False
        empty = True
        while True:
            start = self._skip()
            char = self.text[start : start + 1]
            if char in ("#", "."):
                match = self._expect(_NAME, start + 1, start)
                (ids if char == "#" else classes).append(match[0])
            elif char == "*":
                self.at += 1
            elif char == "[":
                self._filter(zooms, filters)
            elif (match_attachment := _ATTACHMENT.match(self.text, start)) is not None:
                if attachment:
                    raise _Invalid(offset, "Encountered second attachment name.")
                attachment = match_attachment[1]
                self.at = match_attachment.end()
            elif (match_map := _MAP.match(self.text, start)) is not None:
                is_map = True
                self.at = match_map.end()
            elif empty:
                raise _Invalid(start)
            else:
                break
            empty = False
        return Selector(tuple(ids), tuple(classes), is_map, tuple(zooms), tuple(filters), attachment, offset)

    def _filter(self, zooms: list[ZoomNode], filters: list[FilterNode]) -> None:
        offset = self.at
        self.at += 1
        self.operators = 0
        zoom_word = self.text.startswith("zoom", self.at) and not _WORD_KEY.match(self.text, self.at + 4)
        key = self._key()
        self._skip()
        operator = cast("Comparison", self._expect(_COMPARISON, self.at, self.at)[0])
        value = self._expression()
        self._skip()
        if not self.text.startswith("]", self.at):
            raise _Invalid(offset, "Missing closing ] of filter.")
        self.at += 1
        if zoom_word and key == "zoom" and isinstance(value, NumberNode | VariableNode):
            zooms.append(ZoomNode(operator, value, offset))
            return
        if zoom_word and key == "zoom":
            self.report.warn("[zoom] compared with something else than a number filters on a data field", offset)
        filters.append(FilterNode(key, operator, value, offset))

    def _key(self) -> str | Node:
        """Parse the left side of a filter: a word, a string, or an expression that holds a field."""
        start = self._skip()
        for pattern in (_WORD_KEY, _STRING):
            match = pattern.match(self.text, start)
            if match is not None:
                after = _SKIP.match(self.text, match.end())
                if _COMPARISON.match(self.text, after.end() if after else match.end()):
                    self.at = match.end()
                    return match[0] if pattern is _WORD_KEY else (match[1] if match[1] is not None else match[2])
        key = self._expression()
        if isinstance(key, FieldNode):
            return key.name
        if not _holds_field(key):
            raise _Invalid(start)
        return key

    # --- values

    def _list(self) -> Node:
        offset = self._skip()
        items = [self._expression()]
        while self.text.startswith(",", self._skip()):
            self.at += 1
            items.append(self._expression())
        return items[0] if len(items) == 1 else ListNode(tuple(items), ",", offset)

    def _expression(self) -> Node:
        self.depth += 1
        if self.depth > self.report.limits.expression_depth:
            limit = f"Expressions are nested deeper than {self.report.limits.expression_depth} (expression_depth)"
            raise self.report.refuse(limit, self.at)
        offset = self._skip()
        items = [self._sum()]
        while self._skip() > 0 and self.text[self.at - 1] in BLANKS + "/" and self._starts_operand():
            items.append(self._sum())
        self.depth -= 1
        return items[0] if len(items) == 1 else ListNode(tuple(items), " ", offset)

    def _starts_operand(self) -> bool:
        char = self.text[self.at : self.at + 1]
        return bool(char) and (char.isalnum() or char in "\"'#[@(-.") and char.isascii()

    def _sum(self) -> Node:
        node = self._product()
        while (operator := self._operator("+-")) is not None:
            self._count_operator()
            right = self._product()
            node = OperationNode(operator, node, right, node.offset)
        return node

    def _count_operator(self) -> None:
        self.operators += 1
        limit = self.report.limits.expression_operators
        if self.operators > limit:
            raise self.report.refuse(f"A value has more than {limit} operators (expression_operators)", self.at)

    def _product(self) -> Node:
        node = self._operand()
        while (operator := self._operator("*/%")) is not None:
            self._count_operator()
            right = self._operand()
            node = OperationNode(operator, node, right, node.offset)
        return node

    def _operator(self, operators: str) -> Operator | None:
        """Take an operator; after a blank, ``+`` and ``-`` are operators only where a blank follows too."""
        before = self.at
        start = self._skip()
        char = self.text[start : start + 1]
        if not char or char not in operators:
            self.at = before
            return None
        if char in "+-" and start > before and self.text[start + 1 : start + 2] not in tuple(BLANKS):
            self.at = before
            return None
        self.at = start + 1
        return cast("Operator", char)

    def _operand(self) -> Node:
        start = self._skip()
        char = self.text[start : start + 1]
        if char == "(":
            return self._group(start)
        if char in ("'", '"'):
            match = self._expect(_STRING, start, start)
            return StringNode(self._checked(match[1] if match[1] is not None else match[2], start), start)
        if char == "#":
            return self._hex(start)
        if char == "[":
            return FieldNode(self._expect(_FIELD, start, start)[1], start)
        if char == "@":
            return VariableNode(self._expect(_VARIABLE, start, start)[0], start)
        if (match_number := _NUMBER.match(self.text, start)) is not None and not self._digits_open_a_call(start):
            return self._number(match_number, start)
        return self._word(start)

    def _digits_open_a_call(self, start: int) -> bool:
        return bool(self.text[start].isalpha() and _CALL.match(self.text, start))

    def _word(self, start: int) -> Node:
        if self.text.startswith("url(", start):
            return self._url(start)
        if self.text[start : start + 1] == "-" and (
            self.text[start + 1 : start + 2] in ("@", "[", "(") or _CALL.match(self.text, start + 1)
        ):
            self.at = start + 1
            self._count_operator()
            return NegationNode(self._operand(), start)
        if (match := _CALL.match(self.text, start)) is not None:
            return self._call(match, start)
        match = self._expect(_KEYWORD, start, start)
        word = match[0]
        if not word.strip("-"):
            raise _Invalid(start)
        if (channels := color_channels(word)) is not None:
            red, green, blue, alpha = channels
            return ColorNode((red, green, blue), alpha, start)
        return KeywordNode(word, start)

    def _group(self, start: int) -> Node:
        self.at = start + 1
        inner = self._expression()
        self._skip()
        if not self.text.startswith(")", self.at):
            raise _Invalid(self.at if self.at < len(self.text) else start)
        self.at += 1
        return GroupNode(inner, start)

    def _number(self, match: re.Match[str], start: int) -> Node:
        self.at = match.end()
        unit = ""
        if (match_unit := _UNIT.match(self.text, self.at)) is not None:
            unit = match_unit[0]
            self.at = match_unit.end()
            if unit not in UNITS:
                self.report.error(f"Invalid unit: '{unit}'", start)
        value = float(match[0])
        if not math.isfinite(value):
            self.report.error(f"The number {match[0][:40]} is too large", start)
            value = 0.0
        return NumberNode(value, unit, start)

    def _hex(self, start: int) -> Node:
        match = _HEX.match(self.text, start)
        if match is None or len(match[1]) not in (3, 4, 6, 8):
            raise _Invalid(start)
        self.at = match.end()
        digits = match[1] if len(match[1]) > 4 else "".join(digit * 2 for digit in match[1])
        red, green, blue, alpha = bytes.fromhex(digits.ljust(8, "f"))
        return ColorNode((red, green, blue), alpha / 255, start)

    def _url(self, start: int) -> Node:
        self.at = start + len("url(")
        self._blanks()
        variable = None
        if (match := _STRING.match(self.text, self.at)) is not None:
            text = match[1] if match[1] is not None else match[2]
        elif (match := _VARIABLE.match(self.text, self.at)) is not None:
            text, variable = "", match[0]
        else:
            match = _URL_BARE.match(self.text, self.at)
            text = match[0] if match else ""
        self.at = match.end() if match else self.at
        self._blanks()
        if not self.text.startswith(")", self.at):
            raise _Invalid(start, "Missing closing ) in URL.")
        self.at += 1
        return UrlNode(self._checked(text, start), variable, start)

    def _call(self, match: re.Match[str], start: int) -> Node:
        self.at = match.end()
        arguments: list[Node] = []
        if not self.text.startswith(")", self._skip()):
            arguments.append(self._expression())
            while self.text.startswith(",", self._skip()):
                self.at += 1
                arguments.append(self._expression())
        if not self.text.startswith(")", self.at):
            raise _Invalid(self.at if self.at < len(self.text) else start)
        self.at += 1
        return CallNode(match[1], tuple(arguments), start)

    # --- scanning

    def _skip(self) -> int:
        """Move over blanks and comments; return the new offset."""
        if self.text[self.at : self.at + 1] not in _SKIPPED:
            return self.at
        if (match := _SKIP.match(self.text, self.at)) is not None:
            self.at = match.end()
        return self.at

    def _blanks(self) -> None:
        while self.text[self.at : self.at + 1] in tuple(BLANKS):
            self.at += 1

    def _expect(self, pattern: re.Pattern[str], at: int, blame: int) -> re.Match[str]:
        match = pattern.match(self.text, at)
        if match is None:
            raise _Invalid(blame)
        self.at = match.end()
        return match

    def _checked(self, text: str, offset: int) -> str:
        if len(text) > self.report.limits.string_chars:
            limit = f"A string has more than {self.report.limits.string_chars} characters (string_chars)"
            raise self.report.refuse(limit, offset)
        return text


def _holds_field(node: Node) -> bool:
    match node:
        case FieldNode() | VariableNode():
            return True
        case OperationNode(_, left, right, _):
            return _holds_field(left) or _holds_field(right)
        case NegationNode(inner, _) | GroupNode(inner, _):
            return _holds_field(inner)
        case _:
            return False
