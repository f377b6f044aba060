"""Class limits that need more than one pass over the data: natural breaks and head/tail breaks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Bin(NamedTuple):
    """Neighbouring values taken together: the largest, their sum, the sum of their squares, and how many they are."""

    largest: float
    total: float
    squares: float
    rows: int


def natural_breaks(bins: Sequence[Bin], classes: int) -> list[int]:
    """Return the indexes of the last bin of each class, such that the classes' variance is the least possible.

    *bins* are in ascending order. There are at most as many classes as bins.
    Source: Fisher 1958, "On Grouping for Maximum Homogeneity"; Jenks's natural breaks. Each class is one row of a
    dynamic programme; as the best split moves right with the end, halving finds a row in n log n steps.
    """
    size = len(bins)
    classes = min(classes, size)
    if classes == 0:
        return []
    # Around the mean, so that squares of large values do not drown the differences.
    middle = sum(item.total for item in bins) / sum(item.rows for item in bins)
    counts = [0, *accumulate(item.rows for item in bins)]
    sums = [0.0, *accumulate(item.total - item.rows * middle for item in bins)]
    squares = [
        0.0,
        *accumulate(item.squares - 2 * middle * item.total + item.rows * middle * middle for item in bins),
    ]

    def deviation(first: int, last: int) -> float:
        """Return the sum of squared deviations of the bins first..last."""
        count = counts[last + 1] - counts[first]
        total = sums[last + 1] - sums[first]
        return max(0.0, squares[last + 1] - squares[first] - total * total / count)

    row = [deviation(0, last) for last in range(size)]
    splits: list[list[int]] = []
    for taken in range(1, classes):
        previous, row, split = row, [0.0] * size, [0] * size
        pending = [(taken, size - 1, taken, size - 1)]
        while pending:
            low, high, left, right = pending.pop()
            if low > high:
                continue
            last = (low + high) // 2
            costs = [
                (previous[first - 1] + deviation(first, last), first) for first in range(left, min(last, right) + 1)
            ]
            row[last], split[last] = min(costs)
            pending += [(low, last - 1, left, split[last]), (last + 1, high, split[last], right)]
        splits.append(split)
    ends = [size - 1]
    for split in reversed(splits):
        ends.append(split[ends[-1]] - 1)
    return ends[::-1]


def head_tail_breaks(bins: Sequence[Bin], classes: int) -> list[float]:
    """Return up to *classes* means, each of the values above the one before.

    Source: Jiang 2013, "Head/tail breaks: a new classification scheme for data with a heavy-tailed distribution".
    """
    means: list[float] = []
    left = list(bins)
    while left and len(means) < classes:
        mean = sum(item.total for item in left) / sum(item.rows for item in left)
        if means and mean <= means[-1]:
            break
        means.append(mean)
        left = [item for item in left if item.largest > mean]
    return means
