"""Address the cells of an aggregation. Pure.

A cell's address is its column and row in the grid of its zoom, counted from the middle of the world, and where
dimensions split cells a digest of their values: ``12_-7`` or ``12_-7_0123456789abcdef``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_NUMBER = r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e\+[0-9]{1,3})?"
_ADDRESS = re.compile(rf"({_NUMBER})_({_NUMBER})(?:_([0-9a-f]{{16}}))?")


class CellAddress(NamedTuple):
    """The column and row of a cell, whole numbers, and the digest of its dimensions' values."""

    x: float
    y: float
    digest: str | None


def address_expression(dimensions: Mapping[str, str]) -> str:
    """Return the address of the cell that a row of points is in, as SQL."""
    # Zero is added since a negative one would be written as such.
    address = "(cdb_cell_x + 0)::text || '_' || (cdb_cell_y + 0)::text"
    return f"{address} || '_' || {digest_expression(dimensions)}" if dimensions else address


def digest_expression(dimensions: Mapping[str, str]) -> str:
    """Return the digest of the dimensions' values, as SQL."""
    return f"left(md5(jsonb_build_array({', '.join(dimensions.values())})::text), 16)"


def parse_address(text: str, dimensions: Mapping[str, str]) -> CellAddress | None:
    """Return the cell that *text* addresses; None where it cannot be one of these."""
    match = _ADDRESS.fullmatch(text)
    if match is None or (match[3] is None) == bool(dimensions):
        return None
    return CellAddress(float(match[1]), float(match[2]), match[3])
