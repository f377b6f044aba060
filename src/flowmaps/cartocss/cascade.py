"""Flatten a tree into definitions, order them, and say which declarations win.

`winners` states the meaning of a stylesheet directly, for one feature and one zoom. `refine` and `split_zooms` turn the
same meaning into rules of which the first that holds is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flowmaps.cartocss.expressions import Scalar
from flowmaps.cartocss.filters import FilterSet
from flowmaps.cartocss.reference import STYLE_LEVEL, Property
from flowmaps.cartocss.source import Limits, Report
from flowmaps.cartocss.tree import Declaration, FilterNode, Ruleset, Selector, Stylesheet, ZoomNode

ZOOMS = 26
ALL_ZOOMS = (1 << ZOOMS) - 1
FOLD_LIMIT = 300

ReadFilter = Callable[[FilterSet, FilterNode], FilterSet | None]
ReadZoom = Callable[[ZoomNode], int]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A declaration with the property it sets."""

    declaration: Declaration
    known: Property

    @property
    def target(self) -> tuple[str, str]:
        return (self.declaration.instance, self.known.css)

    @property
    def group(self) -> tuple[str, str]:
        return (self.declaration.instance, self.known.symbolizer)

    @property
    def offset(self) -> int:
        return self.declaration.offset


@dataclass(frozen=True, slots=True)
class Definition:
    """A ruleset with one combination of selectors: what must hold, and what it then declares."""

    filters: FilterSet
    zooms: int
    attachment: str
    specificity: tuple[int, int, int, int]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    is_map: bool
    declarations: tuple[Declaration, ...]
    offset: int

    def matches(self, layer_id: str, classes: Iterable[str]) -> bool:
        known = set(classes)
        return not self.is_map and all(name == layer_id for name in self.ids) and known.issuperset(self.classes)


@dataclass(frozen=True, slots=True)
class _Context:
    """What the enclosing rulesets ask for."""

    filters: FilterSet = field(default_factory=FilterSet)
    zooms: int = ALL_ZOOMS
    attachment: str = ""
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    filter_count: int = 0
    is_map: bool = False


def flatten(sheet: Stylesheet, report: Report, read_filter: ReadFilter, read_zoom: ReadZoom) -> list[Definition]:
    """Return every pair of a ruleset and a combination of selectors that has declarations, in source order."""
    definitions: list[Definition] = []
    for ruleset in sheet.rulesets:
        _flatten(ruleset, [_Context()], definitions, report, read_filter, read_zoom)
    return definitions


def _flatten(  # noqa: PLR0917  a recursion carries its state
    ruleset: Ruleset,
    parents: Sequence[_Context],
    definitions: list[Definition],
    report: Report,
    read_filter: ReadFilter,
    read_zoom: ReadZoom,
) -> None:
    report.check_clock()
    own = [
        (selector, read)
        for selector in ruleset.selectors
        if (read := _read_selector(selector, report, read_filter, read_zoom)) is not None
    ]
    contexts: list[_Context] = []
    for selector, read in own:
        contexts += [context for parent in parents if (context := _combine(parent, selector, *read)) is not None]
        if len(contexts) > report.limits.definitions:
            limit = f"More than {report.limits.definitions} combinations of selectors (definitions)"
            raise report.refuse(limit, ruleset.offset)
    if ruleset.declarations:
        position = ruleset.declarations[0].offset
        declarations = tuple(ruleset.declarations)
        definitions += [
            Definition(
                filters=context.filters,
                zooms=context.zooms,
                attachment=context.attachment,
                specificity=(len(context.ids), len(context.classes), context.filter_count, position),
                ids=context.ids,
                classes=context.classes,
                is_map=context.is_map,
                declarations=declarations,
                offset=ruleset.offset,
            )
            for context in contexts
        ]
        if len(definitions) > report.limits.definitions:
            limit = f"More than {report.limits.definitions} combinations of selectors (definitions)"
            raise report.refuse(limit, ruleset.offset)
    for inner in ruleset.rulesets:
        _flatten(inner, contexts, definitions, report, read_filter, read_zoom)


def _read_selector(
    selector: Selector, report: Report, read_filter: ReadFilter, read_zoom: ReadZoom
) -> tuple[FilterSet, int] | None:
    """Return a selector's own filters and zooms, or None where an error was noted."""
    filters: FilterSet = FilterSet()
    for node in selector.filters:
        added = read_filter(filters, node)
        if added is None:
            return None
        filters = added
    zooms = ALL_ZOOMS
    for zoom in selector.zooms:
        zooms &= read_zoom(zoom)
    report.check_clock()
    return filters, zooms


def _combine(parent: _Context, selector: Selector, filters: FilterSet, zooms: int) -> _Context | None:
    merged = parent.filters.merge(filters)
    zooms &= parent.zooms
    if merged is None or not zooms:
        return None
    return _Context(
        filters=merged,
        zooms=zooms,
        attachment="/".join(filter(None, (parent.attachment, selector.attachment))),
        ids=parent.ids + selector.ids,
        classes=parent.classes + selector.classes,
        filter_count=parent.filter_count + len(selector.filters) + len(selector.zooms),
        is_map=parent.is_map or selector.is_map,
    )


def in_order(definitions: Iterable[Definition]) -> list[Definition]:
    """Return *definitions* with the most specific first; the later of two equal ones comes first."""
    return sorted(definitions, key=lambda definition: definition.specificity, reverse=True)


@dataclass(frozen=True, slots=True)
class Styled:
    """A definition with its declarations resolved to properties; the unit that refinement works on."""

    filters: FilterSet
    zooms: int
    assignments: tuple[Assignment, ...]


def winners(definitions: Iterable[Styled], feature: Mapping[str, Scalar], zoom: int) -> list[Assignment]:
    """Return the assignments that win for one feature and zoom; *definitions* come most specific first."""
    chosen: dict[tuple[str, str], Assignment] = {}
    for definition in definitions:
        if not (definition.zooms >> zoom & 1 and definition.filters.holds(feature)):
            continue
        first = not chosen
        for assignment in definition.assignments:
            if assignment.known.is_switch and not first:
                continue
            chosen.setdefault(assignment.target, assignment)
    return list(chosen.values())


@dataclass(slots=True)
class Element:
    """A filter set with the assignments chosen for it so far, each with the zooms where it wins."""

    filters: FilterSet
    chosen: list[tuple[Assignment, int]] = field(default_factory=list)
    covered: dict[tuple[str, str], int] = field(default_factory=dict)
    any_covered: int = 0

    def lacks(self, definition: Styled) -> bool:
        return any(self._uncovered(assignment, definition.zooms) for assignment in definition.assignments)

    def _uncovered(self, assignment: Assignment, zooms: int) -> int:
        if assignment.known.is_switch:
            zooms &= ~self.any_covered
        return zooms & ~self.covered.get(assignment.target, 0)

    def absorb(self, definition: Styled) -> None:
        before = self.any_covered
        for assignment in definition.assignments:
            zooms = definition.zooms & ~(before if assignment.known.is_switch else 0)
            zooms &= ~self.covered.get(assignment.target, 0)
            if zooms:
                self.chosen.append((assignment, zooms))
                self.covered[assignment.target] = self.covered.get(assignment.target, 0) | zooms
                self.any_covered |= zooms

    def copy(self, filters: FilterSet) -> Element:
        return Element(filters, list(self.chosen), dict(self.covered), self.any_covered)


@dataclass(slots=True)
class Budget:
    """What one layer may still use."""

    report: Report
    elements: int = 0
    steps: int = 0

    @property
    def limits(self) -> Limits:
        return self.report.limits

    def step(self, count: int) -> None:
        self.steps += count
        if self.steps > self.limits.merge_steps:
            raise self.report.refuse(f"Combining rules takes more than {self.limits.merge_steps} steps (merge_steps)")
        self.report.check_clock()

    def check(self, elements: int, offset: int) -> None:
        for name, count in (
            ("elements_per_attachment", elements),
            ("elements_per_layer", self.elements + elements),
        ):
            limit: int = getattr(self.limits, name)
            if count > limit:
                raise self.report.refuse(f"The filters combine to more than {limit} rules ({name})", offset)


def refine(definitions: Sequence[Styled], budget: Budget) -> list[Element]:
    """Return elements of which the first that holds for a feature carries exactly that feature's winners.

    *definitions* belong to one attachment, most specific first.
    """
    elements = [Element(FilterSet())]
    for definition in definitions:
        if not definition.assignments:
            continue
        offset = definition.assignments[0].offset
        budget.step(len(elements))
        seen: set[frozenset[tuple[str, str, str, float | str]]] = set()
        rebuilt: list[Element] = []
        for element in elements:
            merged = element.filters.merge(definition.filters)
            if merged is element.filters:
                element.absorb(definition)
            elif merged is not None and merged.key not in seen and element.lacks(definition):
                refined = element.copy(merged)
                refined.absorb(definition)
                rebuilt.append(refined)
                seen.add(merged.key)
            rebuilt.append(element)
            seen.add(element.filters.key)
            if len(rebuilt) % 64 == 0:
                budget.check(len(rebuilt), offset)
        budget.check(len(rebuilt), offset)
        elements = rebuilt
    elements = [element for element in elements if element.chosen]
    budget.elements += len(elements)
    return _fold(elements) if len(elements) <= FOLD_LIMIT else elements


def _fold(elements: Sequence[Element]) -> list[Element]:
    """Drop elements that can never be reached, as an earlier one holds wherever they do."""
    kept: list[Element] = []
    for element in elements:
        if not any(element.filters.implies(earlier.filters) for earlier in kept):
            kept.append(element)
    return kept


@dataclass(frozen=True, slots=True)
class Combination:
    """Assignments that win together for the zooms of a mask."""

    filters: FilterSet
    zooms: int
    assignments: tuple[Assignment, ...]


def split_zooms(element: Element) -> Iterator[Combination]:
    """Split an element so that the winners are the same at all zooms of each part."""
    available = ALL_ZOOMS
    for index, (assignment, zooms) in enumerate(element.chosen):
        rest = zooms & available
        while rest:
            mask = rest
            taken = {assignment.target: assignment}
            for other, other_zooms in element.chosen[index + 1 :]:
                if other.target not in taken and mask & other_zooms & available:
                    mask &= other_zooms
                    taken[other.target] = other
            yield Combination(element.filters, mask, tuple(taken.values()))
            available &= ~mask
            rest &= ~mask


def groups(assignments: Iterable[Assignment]) -> list[tuple[tuple[str, str], list[Assignment]]]:
    """Return (instance, symbolizer) → assignments, in drawing order: by the smallest offset in each group."""
    by_group: dict[tuple[str, str], list[Assignment]] = {}
    for assignment in assignments:
        if assignment.known.symbolizer != STYLE_LEVEL:
            by_group.setdefault(assignment.group, []).append(assignment)
    return sorted(by_group.items(), key=lambda item: min(assignment.offset for assignment in item[1]))
