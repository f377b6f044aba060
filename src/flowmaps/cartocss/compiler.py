"""Compile the CartoCSS of one layer to Mapnik styles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flowmaps.cartocss.cascade import (
    ALL_ZOOMS,
    ZOOMS,
    Assignment,
    Budget,
    Definition,
    Element,
    Styled,
    flatten,
    groups,
    in_order,
    refine,
    split_zooms,
    winners,
)
from flowmaps.cartocss.check import BadValue, Checker, CheckExpression, Printed, Resolve, listed_assets, relative_names
from flowmaps.cartocss.evaluate import Evaluator, Problem, first_definitions
from flowmaps.cartocss.expressions import Scalar, fields
from flowmaps.cartocss.filters import FilterSet, field_clause, opaque_clause
from flowmaps.cartocss.parser import parse
from flowmaps.cartocss.reference import (
    STYLE_LEVEL,
    Property,
    Reference,
    color_names,
    load_reference,
    nearest,
)
from flowmaps.cartocss.regex import BadRegex, decode, translate
from flowmaps.cartocss.source import CartoError, Limits, Message, Report, Severity, check_source, normalise
from flowmaps.cartocss.style import LayerStyle, Rule, Style, Symbolizer, scale_above
from flowmaps.cartocss.tree import Declaration, FilterNode, ZoomNode
from flowmaps.cartocss.values import Field, Keyword, Number, String, Undefined, Value, quote
from flowmaps.cartocss.versions import upgrade

DEFAULT_PPI = 90.714
FALLBACK_FONT = "DejaVu Sans Book"
_NUMBERS = {"point": 1.0, "linestring": 2.0, "polygon": 3.0, "collection": 4.0, "true": 1.0, "false": 0.0}
"""Keywords of filters that Mapnik compares as numbers."""
_ORDERING = ("<", "<=", ">", ">=")
_MAP = "map"
_MAP_ON_SERVER = (
    "background-color",
    "buffer-size",
    "background-image",
    "background-image-opacity",
    "background-image-comp-op",
)


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile; see `compile_layer`."""

    reference: Reference
    ppi: float
    fonts: frozenset[str] | None
    fallback_font: str
    resolve: Resolve
    check_expression: CheckExpression | None
    strict: bool
    variables: frozenset[str] | None = None


def compile_layer(
    css: str,
    *,
    layer_id: str,
    classes: Iterable[str] = (),
    version: str = "3.0.12",
    reference: str = "4.3",
    minzoom: float | None = None,
    maxzoom: float | None = None,
    fonts: Iterable[str] | None = None,
    fallback_font: str = FALLBACK_FONT,
    resources: Resolve | Mapping[str, str] | None = None,
    check_expression: CheckExpression | None = None,
    variables: Iterable[str] | None = None,
    ppi: float = DEFAULT_PPI,
    limits: Limits | None = None,
    strict: bool = False,
    stylesheet: str = "style0",
    bind_ids: bool = True,
    source_positions: bool = False,
) -> LayerStyle:
    """Return the styles of *css* for the layer *layer_id*; raise `CartoError` with every error found.

    *version* is the Mapnik version that the style was written for; older ones are brought up to date first.
    *fonts* are the face names that can be drawn: others are replaced by *fallback_font*, or refused where *strict*.
    *resources* lists the files that the style may use, by the names that it uses for them, or is a function from such a
    name to the file; without it every file is refused. *check_expression* raises on an expression
    that Mapnik refuses. *variables* are the names of the ``@variables`` in strings that are set while drawing;
    without it any may be used. *ppi* are pixels per inch, for absolute units. *stylesheet* names the text in messages.
    *bind_ids* makes each ``#name`` before ``[``, ``:`` or ``{`` stand for the layer, as tile servers do; without it an
    id matches only the layer of that name. Positions in messages count in the text with its ids bound, as clients of
    tile servers know them, or in *css* itself where *source_positions* is set; `Message.place` is always of *css*.
    """
    options = Options(
        reference=load_reference(reference),
        ppi=ppi,
        fonts=None if fonts is None else frozenset(fonts),
        fallback_font=fallback_font,
        resolve=resources if callable(resources) else listed_assets(resources or {}),
        check_expression=check_expression,
        strict=strict,
        variables=None if variables is None else frozenset(variables),
    )
    report = prepare(
        css,
        version=version,
        layer_id=layer_id,
        bind_ids=bind_ids,
        limits=limits or Limits(),
        stylesheet=stylesheet,
        source_positions=source_positions,
    )
    compiler = _Compiler(report, options, layer_id, tuple(classes))
    return compiler.compile(_zoom_window(minzoom, maxzoom))


def compile_style(
    css: str,
    layers: Sequence[str] | Mapping[str, Iterable[str]],
    *,
    fonts: Iterable[str] | None = None,
    fallback_font: str = FALLBACK_FONT,
    resources: Resolve | Mapping[str, str] | None = None,
    limits: Limits | None = None,
    strict: bool = False,
    stylesheet: str = "style0",
) -> list[LayerStyle]:
    """Return the style of each layer that *css* is compiled for; raise `CartoError` with the errors of all.

    *layers* are ids, or ids with their classes; an id in a selector matches the layer of that name only. For the other
    arguments see `compile_layer`; `build_map` makes the XML of a map from the result.
    """
    known = layers if isinstance(layers, Mapping) else dict.fromkeys(layers, ())
    fonts = None if fonts is None else frozenset(fonts)
    styles: list[LayerStyle] = []
    errors: dict[Message, None] = {}
    for layer_id, classes in known.items():
        try:
            styles.append(
                compile_layer(
                    css,
                    layer_id=layer_id,
                    classes=classes,
                    fonts=fonts,
                    fallback_font=fallback_font,
                    resources=resources,
                    limits=limits,
                    strict=strict,
                    stylesheet=stylesheet,
                    bind_ids=False,
                )
            )
        except CartoError as error:
            errors |= dict.fromkeys(error.messages)
    if errors:
        raise CartoError(list(errors))
    return styles


def prepare(
    css: str,
    *,
    version: str,
    layer_id: str,
    limits: Limits,
    stylesheet: str,
    bind_ids: bool = True,
    source_positions: bool = False,
) -> Report:
    """Return the text to compile: ids renamed and the style brought up to date, with the way back for positions."""
    check_source(css, stylesheet, limits, layer_id)
    bound = layer_id if bind_ids else None
    upgraded = upgrade(
        normalise(css),
        version=version,
        layer_id=bound,
        stylesheet=stylesheet,
        limits=limits,
        layer=layer_id,
        source_positions=source_positions,
    )
    return Report(
        upgraded.text,
        stylesheet,
        limits,
        maps=upgraded.maps,
        original=upgraded.original,
        author=upgraded.author,
        layer=layer_id,
        warnings=list(upgraded.warnings),
    )


def _zoom_window(minzoom: float | None, maxzoom: float | None) -> int:
    low = 0 if minzoom is None else max(0, int(minzoom))
    high = ZOOMS - 1 if maxzoom is None else min(ZOOMS - 1, int(maxzoom))
    return sum(1 << zoom for zoom in range(low, high + 1))


@dataclass(slots=True)
class _Outcome:
    """A declaration's printed value, or why there is none."""

    printed: Printed | None
    value: Value | None
    problem: Message | None
    warnings: tuple[str, ...] = ()
    used: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """The definitions of one attachment, most specific first, split by what they style."""

    name: str
    styled: tuple[Styled, ...]
    style_level: tuple[tuple[Definition, Assignment], ...]
    first_offset: int


class _Compiler:
    def __init__(self, report: Report, options: Options, layer_id: str, classes: tuple[str, ...]) -> None:
        self.report = report
        self.options = options
        self.layer_id = layer_id
        self.classes = classes
        self.checker = Checker(options.resolve, options.check_expression, options.variables)
        self.outcomes: dict[int, _Outcome] = {}
        # Keys are the ids of assignments, which live as long as the compiler.
        self.symbolizers: dict[tuple[int, ...], Symbolizer | None] = {}
        self.fontsets: dict[tuple[str, ...], int] = {}
        # Columns with the offset of their first use; those of filters come first.
        self.filter_columns: dict[str, int] = {}
        self.columns: dict[str, int] = {}
        self.files: dict[str, None] = {}
        self.rules = 0
        sheet = parse(report)
        # Where something does not parse, what it would have declared is missing without its author's fault.
        self.is_partial = bool(report.errors)
        variables, repeated = first_definitions(sheet)
        for name, offset in repeated:
            report.warn(f"variable {name} is defined before; the first definition counts", offset)
        for declaration in sheet.properties:
            report.error(
                f"Unrecognized rule: {declaration.property}. It stands outside of any block", declaration.offset
            )
        self.evaluator = Evaluator(variables, options.reference, options.ppi, report.limits)
        self.evaluator.broken = frozenset(sheet.broken)
        self.definitions = flatten(sheet, report, self._read_filter, self._read_zoom)

    # --- filters

    def _read_filter(self, filters: FilterSet, node: FilterNode) -> FilterSet | None:
        """Return *filters* with the filter that *node* describes; note an error and return None where it is wrong."""
        try:
            value = self.evaluator.evaluate(node.value)
            if isinstance(value, Undefined):
                return None
            added = self._add_filter(filters, node, value)
        except Problem as problem:
            self.report.error(problem.text, problem.offset)
            return None
        if added is None:
            text = f"[{filters.text}] added to [{_source_of(node)}] produces an invalid filter"
            self.report.error(text, node.offset)
        return added

    def _add_filter(self, filters: FilterSet, node: FilterNode, value: Value) -> FilterSet | None:
        operator = node.operator
        if isinstance(node.key, str):
            self.filter_columns.setdefault(node.key, node.offset)
            key = f"[{node.key}]"
        else:
            expression = self.evaluator.evaluate(node.key)
            if not isinstance(expression, Field):
                raise Problem(f"Invalid code: {_source_of(node)}", node.offset)
            key = expression.text
            self._note_filter_columns(key, node)
        if operator == "=~":
            return filters.add(opaque_clause(key, operator, f"({key}.match({quote(self._pattern(value, node))}))"))
        if isinstance(value, Field):
            self._note_filter_columns(value.text, node)
            return filters.add(opaque_clause(key, operator, f"({key} {operator} {value.text})"))
        if operator in _ORDERING and not isinstance(value, Number):
            raise Problem(f'Cannot use operator "{operator}" with value {value.text}', node.offset)
        if not isinstance(node.key, str):
            printed = quote(value.text) if isinstance(value, String) else self._constant(value, node)
            return filters.add(opaque_clause(key, operator, f"({key} {operator} {printed})"))
        match value:
            case Number(number):
                return filters.add(field_clause(node.key, operator, "number", number, value.text))
            case String(text):
                return filters.add(field_clause(node.key, operator, "string", text, quote(text)))
            case Keyword(text) if text in _NUMBERS:
                return filters.add(field_clause(node.key, operator, "number", _NUMBERS[text], text))
            case _:
                printed = self._constant(value, node)
                return filters.add(field_clause(node.key, operator, "keyword", printed, printed))

    def _constant(self, value: Value, node: FilterNode) -> str:
        if isinstance(value, Number):
            return value.text
        if isinstance(value, Keyword) and value.text in self.options.reference.filter_keywords:
            return value.text
        closest = nearest(value.text, self.options.reference.filter_keywords, below=3)
        hint = f". Did you mean {closest}?" if closest else ""
        raise Problem(f"{value.text} is not a valid keyword in a filter expression{hint}", node.offset)

    def _pattern(self, value: Value, node: FilterNode) -> str:
        if not isinstance(value, String):
            raise Problem(f'Cannot use operator "=~" with value {value.text}', node.offset)
        limit = self.report.limits.regex_chars
        if len(value.text) > limit:
            raise Problem(f"A regular expression has more than {limit} characters (regex_chars)", node.offset)
        try:
            translate(decode(value.text))
        except BadRegex as problem:
            raise Problem(f"The regular expression {value.text} is refused: {problem}", node.offset) from None
        return value.text

    def _note_filter_columns(self, text: str, node: FilterNode) -> None:
        for name in fields(text):
            self.filter_columns.setdefault(name, node.offset)

    def _read_zoom(self, node: ZoomNode) -> int:
        try:
            value = self.evaluator.evaluate(node.value)
        except Problem as problem:
            self.report.error(problem.text, problem.offset)
            return ALL_ZOOMS
        if not isinstance(value, Number) or node.operator == "=~":
            self.report.error(f'Cannot use operator "{node.operator}" with value {value.text}', node.offset)
            return ALL_ZOOMS
        zoom = int(value.value)
        if not 0 <= zoom < ZOOMS:
            self.report.error("Only zoom levels between 0 and 25 supported.", node.offset)
            return ALL_ZOOMS
        masks = {
            "=": 1 << zoom,
            "!=": ALL_ZOOMS & ~(1 << zoom),
            "<": (1 << zoom) - 1,
            "<=": (1 << zoom + 1) - 1,
            ">": ALL_ZOOMS & ~((1 << zoom + 1) - 1),
            ">=": ALL_ZOOMS & ~((1 << zoom) - 1),
        }
        return masks[node.operator]

    # --- declarations

    def _resolve(self, declaration: Declaration, severity: Severity) -> Assignment | None:
        """Return the assignment that *declaration* makes; note what is wrong with its property and return None."""
        known = self.options.reference.properties.get(declaration.property)
        if known is None:
            text = f"Unrecognized rule: {declaration.property}"
            if (suggestion := self.options.reference.suggestion(declaration.property)) is not None:
                text += f". Did you mean {suggestion}?"
            self._note(severity, text, declaration.offset)
            return None
        if known.symbolizer == _MAP:
            self._note(severity, "Map properties are not permitted in other rules", declaration.offset)
            return None
        return Assignment.of(declaration, known)

    def _note(self, severity: Severity, text: str, offset: int | None) -> None:
        if severity == "error":
            self.report.error(text, offset)
        else:
            self.report.warn(text, offset)

    def outcome(self, assignment: Assignment) -> _Outcome:
        """Return the printed value of *assignment*, computed once."""
        found = self.outcomes.get(id(assignment.declaration))
        if found is None:
            found = self._print(assignment)
            self.outcomes[id(assignment.declaration)] = found
        return found

    def _print(self, assignment: Assignment) -> _Outcome:
        known, declaration = assignment.known, assignment.declaration
        try:
            value = self.evaluator.evaluate(declaration.value)
        except Problem as problem:
            return _Outcome(None, None, self.report.message("error", problem.text, problem.offset))
        if isinstance(value, Undefined):
            return _Outcome(None, value, None)
        if _leaves_out(assignment, value):
            return _Outcome(None, value, None)
        try:
            printed = self.checker.print(known, value)
        except BadValue as problem:
            text = problem.text or (
                f"Invalid value for {known.css}, the type {known.type_name} is expected. "
                f"{value.text[:200]} (of type {value.kind}) was given.{_suggestion(known, value)}"
            )
            if problem.text and not problem.text.startswith(("Invalid", "Unable", "The file", "Mapnik")):
                text = f"Invalid value for {known.css}, {problem.text}"
            return _Outcome(None, value, self.report.message("error", text, declaration.offset))
        return _Outcome(printed, value, None, printed.warnings)

    def use(self, assignment: Assignment) -> Printed | None:
        """Return the printed value for the output; what was found wrong becomes an error now."""
        outcome = self.outcome(assignment)
        if not outcome.used:
            outcome.used = True
            if outcome.problem is not None and outcome.problem not in self.report.errors:
                self.report.errors.append(outcome.problem)
            for warning in outcome.warnings:
                self.report.warn(warning, assignment.offset)
            if outcome.printed is not None:
                for name in outcome.printed.columns:
                    self.columns.setdefault(name, assignment.offset)
                self.files.update(dict.fromkeys(outcome.printed.files))
        return outcome.printed

    # --- the layer

    def attachments(self, window: int = ALL_ZOOMS) -> list[Attachment]:
        """Return the definitions that match the layer, by attachment, in drawing order."""
        by_name: dict[str, list[Definition]] = {}
        for definition in self.definitions:
            if definition.is_map:
                continue
            if not definition.matches(self.layer_id, self.classes):
                self.report.warn("This selector matches no layer", definition.offset)
                for declaration in definition.declarations:
                    assignment = self._resolve(declaration, "warning")
                    problem = self.outcome(assignment).problem if assignment else None
                    if problem is not None:
                        self.report.warn(problem.text, declaration.offset)
            elif definition.zooms & window:
                by_name.setdefault(definition.attachment, []).append(definition)
        found = [self._attachment(name, definitions) for name, definitions in by_name.items()]
        # Of the attachments of one comma list, which share their offset, the last is drawn first, as carto does.
        found.reverse()
        return sorted(found, key=lambda attachment: attachment.first_offset)

    def _attachment(self, name: str, definitions: Sequence[Definition]) -> Attachment:
        styled: list[Styled] = []
        style_level: list[tuple[Definition, Assignment]] = []
        offsets: list[int] = []
        for definition in in_order(definitions):
            resolved = [self._resolve(declaration, "error") for declaration in definition.declarations]
            assignments = [assignment for assignment in resolved if assignment is not None]
            offsets += [assignment.offset for assignment in assignments]
            style_level += [
                (definition, assignment) for assignment in assignments if assignment.known.symbolizer == STYLE_LEVEL
            ]
            drawn = tuple(assignment for assignment in assignments if assignment.known.symbolizer != STYLE_LEVEL)
            styled.append(Styled(definition.filters, definition.zooms, drawn))
        return Attachment(name, tuple(styled), tuple(style_level), min(offsets, default=0))

    def compile(self, window: int) -> LayerStyle:
        map_properties = self._map_properties()
        budget = Budget(self.report)
        styles: list[Style] = []
        # All are refined before rules are made of any, so that a style that asks for too much is refused early.
        refined = [(attachment, refine(attachment.styled, budget)) for attachment in self.attachments(window)]
        for attachment, elements in refined:
            attributes = self._style_attributes(attachment)
            rules = self._rules(elements)
            if rules:
                name = f"{self.layer_id}-{attachment.name}" if attachment.name else self.layer_id
                styles.append(Style(name, attributes, tuple(rules)))
        for attachment, _ in refined:
            for styled in attachment.styled:
                for assignment in styled.assignments:
                    self.outcome(assignment)
        self._report_unused()
        self.report.stop()
        columns = {
            name: offset
            for name, offset in {**self.columns, **self.filter_columns}.items()
            if not name.startswith("mapnik::")
        }
        ordered = [name for name in {**self.filter_columns, **self.columns} if name in columns]
        return LayerStyle(
            layer_id=self.layer_id,
            styles=tuple(styles),
            map_properties=map_properties,
            fontsets=tuple(self.fontsets),
            columns=tuple(ordered),
            column_uses={name: self.report.message("error", "", columns[name]) for name in ordered},
            files=tuple(self.files),
            messages=tuple(sorted(self.report.warnings, key=lambda message: message.offset or 0)),
        )

    def _report_unused(self) -> None:
        """Turn errors in values that never reach the output into warnings."""
        for outcome in self.outcomes.values():
            if not outcome.used and outcome.problem is not None:
                self.report.warn(outcome.problem.text, outcome.problem.offset)

    def _map_properties(self) -> dict[str, str]:
        properties: dict[str, str] = {}
        for definition in self.definitions:
            if not definition.is_map:
                continue
            block: dict[str, str] = {}
            for declaration in definition.declarations:
                self._map_property(declaration, block)
            properties = block | properties
        return properties

    def _map_property(self, declaration: Declaration, block: dict[str, str]) -> None:
        known = self.options.reference.properties.get(declaration.property)
        if declaration.property.startswith("-torque-"):
            self.report.warn(f"{declaration.property} has a meaning in torque layers only", declaration.offset)
            return
        if known is None or known.symbolizer != _MAP:
            if known is None:
                self._resolve(declaration, "error")
            self.report.error(f"Rule {declaration.property} not allowed for Map.", declaration.offset)
            return
        if known.css not in _MAP_ON_SERVER:
            self.report.warn(f"{known.css} is not settable by a map here", declaration.offset)
            return
        printed = self.use(Assignment.of(declaration, known))
        if printed is not None and printed.text:
            block[known.xml] = printed.text

    def _style_attributes(self, attachment: Attachment) -> dict[str, str]:
        attributes: dict[str, str] = {}
        filters: dict[str, dict[str, None]] = {}
        for definition, assignment in attachment.style_level:
            known = assignment.known
            if definition.filters.clauses or definition.zooms != ALL_ZOOMS:
                self.report.warn(f"{known.css} holds for the whole attachment, whatever the filter", assignment.offset)
            printed = self.use(assignment)
            if printed is None:
                continue
            if known.is_image_filter:
                filters.setdefault(known.xml, {})[printed.text] = None
            else:
                attributes.setdefault(known.xml, printed.text)
        for xml, texts in filters.items():
            if joined := ",".join(filter(None, texts)):
                attributes[xml] = joined
        if attributes.get("comp-op") == "src-over":
            del attributes["comp-op"]
        if attributes.get("opacity") == "1":
            del attributes["opacity"]
        return dict(sorted(attributes.items()))

    def _rules(self, elements: Sequence[Element]) -> list[Rule]:
        rules: list[Rule] = []
        for element in elements:
            self.report.check_clock()
            filled = 0
            text = element.filters.text
            for combination in split_zooms(element):
                symbolizers = self._symbolizers(combination.assignments)
                for mask in _runs(combination.zooms, filled):
                    max_scale, min_scale = _scales(mask)
                    rules.append(Rule(text, max_scale, min_scale, symbolizers))
                    self.rules += 1
                filled |= combination.zooms
                if self.rules > self.report.limits.rules_per_map:
                    limit = f"The style needs more than {self.report.limits.rules_per_map} rules (rules_per_map)"
                    raise self.report.refuse(limit)
            self._check_filter(element.filters)
        while rules and not rules[-1].symbolizers:
            rules.pop()
        return rules

    def _check_filter(self, filters: FilterSet) -> None:
        if self.options.check_expression is None or not filters.clauses:
            return
        try:
            self.options.check_expression(filters.text)
        except Exception as problem:  # noqa: BLE001  any exception of the given check means that it refuses the text
            self.report.error(f"Mapnik cannot read the filter {filters.text}: {str(problem)[:200]}", 0)

    def _symbolizers(self, assignments: Iterable[Assignment]) -> tuple[Symbolizer, ...]:
        found: list[Symbolizer | None] = []
        for (instance, symbolizer), members in groups(assignments):
            key = tuple([id(member) for member in members])
            if key not in self.symbolizers:
                self.symbolizers[key] = self._symbolizer(instance, symbolizer, members)
            found.append(self.symbolizers[key])
        return tuple(symbolizer for symbolizer in found if symbolizer is not None)

    def _symbolizer(self, instance: str, symbolizer: str, members: Sequence[Assignment]) -> Symbolizer | None:
        attributes: dict[str, str] = {}
        text = None
        stops: tuple[tuple[tuple[str, str], ...], ...] = ()
        fontset = None
        switch = None
        for assignment in sorted(members, key=lambda member: member.known.css):
            known = assignment.known
            printed = self.use(assignment)
            if known.inert:
                self.report.warn(
                    f"{known.css} is read by Mapnik 4.3 but changes nothing that it draws", assignment.offset
                )
            if known.is_switch:
                switch = printed.text if printed else None
            elif printed is None:
                continue
            elif known.ignored:
                self.report.warn(f"{known.css} has no effect in Mapnik 4", assignment.offset)
            elif known.serialization == "content":
                text = printed.text
            elif known.serialization == "tag":
                stops = printed.stops
            elif known.font:
                fontset = self._font(attributes, printed.fonts, assignment)
            else:
                attributes[known.xml] = printed.text
        if switch == "none":
            return None
        first = min(member.offset for member in members)
        self._check_symbolizer(symbolizer, members, stops, switch)
        if "placements" in attributes and attributes.setdefault("placement-type", "simple") != "simple":
            self.report.warn(
                f"{symbolizer}-placements has an effect with {symbolizer}-placement-type: simple only", first
            )
            del attributes["placements"]
        if not any(member.known.serialization == "tag" for member in members):
            stops = ()
        name = "".join(part.capitalize() for part in symbolizer.split("-")) + "Symbolizer"
        return Symbolizer(name, instance, attributes, text, stops, fontset)

    def _check_symbolizer(
        self,
        symbolizer: str,
        members: Sequence[Assignment],
        stops: Sequence[Sequence[tuple[str, str]]],
        switch: str | None,
    ) -> None:
        given = {member.known.css for member in members}
        first = min(member.offset for member in members)
        if switch is None and not self.is_partial:
            for css in self.options.reference.required[symbolizer]:
                if css not in given:
                    self.report.error(f"Property {css} required for defining {symbolizer} styles.", first)
        deprecated = f"{symbolizer}-min-distance"
        for rival in (f"{symbolizer}-margin", f"{symbolizer}-repeat-distance"):
            if deprecated in given and rival in given:
                self.report.error(f"{deprecated} is deprecated and excludes {rival}", first)
        if "raster-colorizer-default-color" not in given and not self.is_partial:
            for stop in stops:
                if not any(name == "color" for name, _ in stop):
                    self.report.error("a stop without colour needs raster-colorizer-default-color", first)

    def _font(self, attributes: dict[str, str], names: tuple[str, ...], assignment: Assignment) -> int | None:
        """Set the face name, or return the number of the font set; unknown fonts are replaced."""
        known = self.options.fonts
        if known is not None:
            missing = [name for name in names if name not in known]
            if missing and self.options.strict:
                text = (
                    f"Invalid value for {assignment.known.css}, the type font is expected. "
                    f"{missing[0]} (of type string) was given."
                )
                self.report.error(text, assignment.offset)
            if missing:
                self.report.warn(f"font {', '.join(missing)} is not known here and is replaced", assignment.offset)
                names = tuple(name for name in names if name in known)
                names = tuple(dict.fromkeys((*names, self.options.fallback_font)))
        if len(names) == 1:
            attributes["face-name"] = names[0]
            return None
        return self.fontsets.setdefault(names, len(self.fontsets))


def _suggestion(known: Property, value: Value) -> str:
    """Return what a mistyped keyword was probably meant to be."""
    if not isinstance(value, Keyword | String):
        return ""
    words: Iterable[str] = ()
    if isinstance(known.type, tuple):
        words = known.type
    elif known.type == "color":
        words = color_names()
    elif known.type == "boolean":
        words = ("true", "false")
    closest = nearest(value.text.lower(), words, below=3)
    return f" Did you mean {closest}?" if closest and closest != value.text else ""


def _leaves_out(assignment: Assignment, value: Value) -> bool:
    """Tell whether ``none`` or ``auto`` means: do not write this attribute."""
    known = assignment.known
    return (
        isinstance(value, Keyword)
        and value.text in ("none", "auto")
        and not isinstance(known.type, tuple)
        and (known.is_transform or known.type not in ("functions", "string"))
        and not (known.type == "uri" and known.required)
    )


def _runs(mask: int, filled: int) -> list[int]:
    """Split *mask* at holes that no earlier rule of the element fills."""
    low = mask & -mask
    if not (mask + low) & mask:
        return [mask] if mask else []
    runs: list[int] = []
    current = 0
    for zoom in range(ZOOMS):
        bit = 1 << zoom
        if mask & bit:
            current |= bit
        elif current and not filled & bit:
            runs.append(current)
            current = 0
    if current:
        runs.append(current)
    return runs


def _scales(mask: int) -> tuple[str | None, str | None]:
    """Return the largest and smallest scale denominator of a zoom mask; None where it is open."""
    lowest = (mask & -mask).bit_length() - 1
    highest = mask.bit_length() - 1
    return (
        scale_above(lowest) if lowest > 0 else None,
        scale_above(highest + 1) if highest < ZOOMS - 1 else None,
    )


def _source_of(node: FilterNode) -> str:
    key = node.key if isinstance(node.key, str) else "…"
    return f"{key}{node.operator}…"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn for one feature: attachment, and its symbolizers in order."""

    attachment: str
    symbolizers: tuple[Symbolizer, ...]


def evaluate(
    css: str,
    layer_id: str,
    feature: Mapping[str, Scalar],
    zoom: int,
    *,
    classes: Iterable[str] = (),
    version: str = "3.0.12",
    bind_ids: bool = True,
) -> list[Drawn]:
    """Return what *css* means for one feature and zoom, by direct evaluation and without rules."""
    report = prepare(css, version=version, layer_id=layer_id, bind_ids=bind_ids, limits=Limits(), stylesheet="style0")
    options = Options(load_reference(), DEFAULT_PPI, None, FALLBACK_FONT, relative_names, None, strict=False)
    compiler = _Compiler(report, options, layer_id, tuple(classes))
    drawn = [
        Drawn(attachment.name, compiler._symbolizers(winners(attachment.styled, feature, zoom)))  # noqa: SLF001
        for attachment in compiler.attachments()
    ]
    report.stop()
    return drawn


__all__ = ["CartoError", "Drawn", "compile_layer", "evaluate"]
