"""Groups of times in an aggregation's dimensions: what they may say, and what is told of them."""

from __future__ import annotations

import contextlib
from typing import Any

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapsql.time_dimension import UNITS, parse_time_dimension


@pytest.mark.parametrize(
    ("group", "layout", "message"),
    [
        ("month", None, "group must be an object"),
        ({}, None, 'Invalid units "None"'),
        ({"units": "fortnight"}, None, 'Invalid units "fortnight"'),
        ({"units": ["day"]}, None, "Invalid units"),
        ({"units": "day", "every": 2}, None, "Invalid parameters: every"),
        ({"units": "day"}, "text", "format must be iso or number"),
        ({"units": "day", "count": 0}, None, "count must be a whole number from 1 to 1000000"),
        ({"units": "day", "count": 1.5}, None, "count must be a whole number from 1 to 1000000"),
        ({"units": "day", "count": True}, None, "count must be a whole number from 1 to 1000000"),
        ({"units": "day", "count": 10**7}, None, "count must be a whole number from 1 to 1000000"),
        ({"units": "dayOfWeek", "count": 2}, None, "Count 2 not supported for cyclic dayOfWeek"),
        ({"units": "dayOfWeek", "starting": "2020"}, None, "Parameter 'starting' not supported for cyclic dayOfWeek"),
        ({"units": "day", "count": 2}, "iso", "Multiple time units not supported for ISO format"),
        ({"units": "day", "starting": "2020"}, "iso", "Parameter 'starting' not supported for ISO format"),
        ({"units": "day", "starting": "x"}, None, "starting must be a moment such as"),
        ({"units": "day", "starting": 2020}, None, "starting must be a moment such as"),
        ({"units": "day", "starting": "2020-02-30"}, None, "starting is no moment: day"),
        ({"units": "day", "starting": "0000"}, None, "starting is no moment: year"),
        ({"units": "day", "timezone": ""}, None, "timezone must be a name, or seconds from UTC"),
        ({"units": "day", "timezone": 0.5}, None, "timezone must be a name, or seconds from UTC"),
        ({"units": "day", "timezone": 86401}, None, "timezone must be a name, or seconds from UTC"),
        ({"units": "day", "timezone": True}, None, "timezone must be a name, or seconds from UTC"),
        ({"units": "day", "timezone": "x" * 64}, None, "timezone must be a name, or seconds from UTC"),
    ],
)
def test_a_wrong_group_is_refused(group: object, layout: str | None, message: str) -> None:
    with pytest.raises(InvalidMapConfig) as caught:
        parse_time_dimension("a", {"column": "t", "group": group, "format": layout})
    assert caught.value.message.startswith(f"Invalid time dimension a: {message}")


@given(
    st.sampled_from(UNITS),
    st.text(max_size=20) | st.integers() | st.floats(),
    st.text(max_size=20) | st.none(),
    st.sampled_from([None, "iso"]),
)
def test_any_group_is_refused_or_one_expression(units: str, zone: Any, starting: Any, layout: str | None) -> None:
    group = {"units": units, "timezone": zone} | ({} if starting is None else {"starting": starting})
    with contextlib.suppress(InvalidMapConfig):
        expression = parse_time_dimension("a", {"column": "t", "group": group, "format": layout}).expression('"t"')
        statement = f"select {expression}"
        tree = postgast.parse(statement)
        assert len(tree.stmts) == 1
        assert len(tree.stmts[0].stmt.select_stmt.target_list) == 1
