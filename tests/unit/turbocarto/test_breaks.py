"""Classes of natural and head/tail breaks are the best there are."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.turbocarto import Bin, head_tail_breaks, natural_breaks


def bins_of(values: list[float]) -> list[Bin]:
    groups = itertools.groupby(sorted(values))
    return [Bin(value, value * n, value * value * n, n) for value, n in ((v, len(list(g))) for v, g in groups)]


def deviation(values: list[float]) -> float:
    middle = statistics.fmean(values)
    return math.fsum((value - middle) ** 2 for value in values)


def deviation_of(values: list[float], limits: list[float]) -> float:
    low = -math.inf
    total = 0.0
    for limit in limits:
        total += deviation([value for value in values if low < value <= limit])
        low = limit
    return total


@given(st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=14), st.integers(1, 5))
def test_no_other_limits_have_less_deviation(values: list[float], classes: int) -> None:
    distinct = sorted(set(values))
    bins = bins_of(values)
    ends = natural_breaks(bins, classes)
    limits = [bins[end].largest for end in ends]
    assert limits == sorted(set(limits))
    assert len(limits) == min(classes, len(distinct))
    assert limits[-1] == distinct[-1]
    best = min(
        deviation_of(values, [*inner, distinct[-1]])
        for inner in itertools.combinations(distinct[:-1], min(classes, len(distinct)) - 1)
    )
    assert deviation_of(values, limits) == pytest.approx(best, abs=1e-6)


def test_clusters_far_from_zero_are_found() -> None:
    values = [1e9 + offset + noise / 10 for offset in (0, 100, 250) for noise in range(10)]
    bins = bins_of(values)
    assert [bins[end].largest for end in natural_breaks(bins, 3)] == [1e9 + 0.9, 1e9 + 100.9, 1e9 + 250.9]


def test_three_thousand_bins_have_nine_classes() -> None:
    choice = random.Random(1)
    bins = bins_of([choice.lognormvariate(3, 1) for _ in range(3000)])
    assert len(natural_breaks(bins, 9)) == 9


def test_nothing_has_no_breaks() -> None:
    assert natural_breaks([], 5) == []
    assert head_tail_breaks([], 5) == []


@given(st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=200), st.integers(1, 7))
def test_head_tail_breaks_are_the_means_of_what_is_above(values: list[float], classes: int) -> None:
    expected: list[float] = []
    left = values
    while left and len(expected) < classes:
        expected.append(statistics.fmean(left))
        left = [value for value in left if value > expected[-1]]
    assert head_tail_breaks(bins_of(values), classes) == pytest.approx(expected)
