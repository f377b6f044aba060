"""Split points by their time: a running number of periods, a period's ISO name, or a part that comes again. Pure.

Units, parameters and numbering are those of Windshaft-cartodb 10 (`time-dimension.js`): seconds, minutes, hours and
decades count from 0, the others from 1, from the year 1 on where no other start is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowmaps.errors import InvalidMapConfig
from flowmaps.mapsql.quoting import MAX_NAME_BYTES, quoted_text

FIRST = datetime(1, 1, 1)  # noqa: DTZ001  a wall clock, in the zone of the dimension
MOST_COUNT = 1_000_000
LARGEST_OFFSET_SECONDS = 86_400

_SECONDS = "(date_part('epoch', {t}) - date_part('epoch', {start}))"
_YEARS = "(date_part('year', {t}) - date_part('year', {start}))"
_MONTHS = "(date_part('month', {t}) - date_part('month', {start}))"
_QUARTERS = "(date_part('quarter', {t}) - date_part('quarter', {start}))"
_FROM_0 = {
    "second": f"floor({_SECONDS})",
    "minute": f"floor({_SECONDS} / 60)",
    "hour": f"floor({_SECONDS} / 3600)",
    # The first decade has nine years, as PostgreSQL counts them; one that starts elsewhere has ten.
    "decade": f"floor(({_YEARS} + {{decade_shift}}) / 10)",
}
_FROM_1 = {
    "day": f"1 + floor({_SECONDS} / 86400)",
    "week": f"1 + floor({_SECONDS} / 604800)",
    "month": f"1 + {_MONTHS} + 12 * {_YEARS}",
    "quarter": f"1 + {_QUARTERS} + 4 * {_YEARS}",
    "trimester": f"1 + floor({_MONTHS} / 4) + 3 * {_YEARS}",
    "semester": f"1 + floor({_MONTHS} / 6) + 2 * {_YEARS}",
    "year": f"1 + {_YEARS}",
    "century": f"1 + floor({_YEARS} / 100)",
    "millennium": f"1 + floor({_YEARS} / 1000)",
}
_ISO = {
    "second": """to_char({t}, 'YYYY-MM-DD"T"HH24:MI:SS')""",
    "minute": """to_char({t}, 'YYYY-MM-DD"T"HH24:MI')""",
    "hour": """to_char({t}, 'YYYY-MM-DD"T"HH24')""",
    "day": "to_char({t}, 'YYYY-MM-DD')",
    "week": """to_char({t}, 'IYYY-"W"IW')""",
    "month": "to_char({t}, 'YYYY-MM')",
    "quarter": """to_char({t}, 'YYYY-"Q"Q')""",
    "trimester": """to_char({t}, 'YYYY"t"') || ceil(date_part('month', {t}) / 4)::text""",
    "semester": """to_char({t}, 'YYYY"S"') || ceil(date_part('month', {t}) / 6)::text""",
    "year": "to_char({t}, 'YYYY')",
    "decade": "'D' || date_part('decade', {t})::text",
    "century": """to_char({t}, '"C"CC')""",
    "millennium": "'M' || date_part('millennium', {t})::text",
}
_CYCLIC = {
    "minuteOfHour": "date_part('minute', {t})",
    "hourOfDay": "date_part('hour', {t})",
    "dayOfWeek": "date_part('isodow', {t})",
    "dayOfMonth": "date_part('day', {t})",
    "dayOfYear": "date_part('doy', {t})",
    "weekOfYear": "date_part('week', {t})",
    "monthOfYear": "date_part('month', {t})",
    "quarterOfYear": "date_part('quarter', {t})",
    "trimesterOfYear": "ceil(date_part('month', {t}) / 4)",
    "semesterOfYear": "ceil(date_part('month', {t}) / 6)",
}
UNITS = (*_ISO, *_CYCLIC)

_STARTING = re.compile(r"(\d{4})(?:-?(\d\d)(?:-?(\d\d)(?:[T ]?(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?)?)?", re.ASCII)
_OFFSET = re.compile(r"[-+]?\d{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TimeDimension:
    """How points are split by a column of times; *timezone* is a name that PostgreSQL knows, or seconds from UTC."""

    column: str
    units: str
    timezone: str | int = "utc"
    count: int = 1
    starting: datetime | None = None
    is_iso: bool = False

    @property
    def is_cyclic(self) -> bool:
        return self.units in _CYCLIC

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as clients know them, with defaults."""
        named = {"column": self.column, "timezone": self.timezone, "units": self.units, "count": self.count}
        if self.is_cyclic:
            return named
        if self.is_iso:
            return {**named, "format": "iso"}
        return {**named, "starting": (self.starting or FIRST).isoformat()}

    def expression(self, column: str) -> str:
        """Return the value of the dimension as SQL; *column* is SQL for the time. Infinite times have none."""
        zone = f"interval '{self.timezone} seconds'" if isinstance(self.timezone, int) else quoted_text(self.timezone)
        moment = f"{column}::timestamptz"
        t = f"timezone({zone}, case when isfinite({moment}) then {moment} end)"
        if self.is_cyclic:
            return f"({_CYCLIC[self.units].format(t=t)})::integer"
        if self.is_iso:
            return f"({_ISO[self.units].format(t=t)})"
        values = {
            "t": t,
            "start": f"timestamp '{(self.starting or FIRST).isoformat()}'",
            "decade_shift": 1 if self.starting is None else 0,
        }
        if self.units in _FROM_0:
            number = _FROM_0[self.units].format(**values)
            return f"({number})::bigint" if self.count == 1 else f"floor(({number}) / {self.count})::bigint"
        number = _FROM_1[self.units].format(**values)
        return f"({number})::bigint" if self.count == 1 else f"ceil(({number}) / {self.count})::bigint"


def parse_time_dimension(name: str, value: Mapping[str, Any]) -> TimeDimension:
    """Return the dimension *name* of a column with a group; raise `InvalidMapConfig` saying what is wrong."""
    group = value["group"]
    if not isinstance(group, Mapping):
        raise _problem(name, "group must be an object")
    if unknown := set(group) - {"units", "timezone", "count", "starting"}:
        raise _problem(name, f"Invalid parameters: {', '.join(sorted(str(item)[:40] for item in unknown))}")
    units, layout = group.get("units"), value.get("format")
    if not isinstance(units, str) or units not in UNITS:
        raise _problem(name, f'Invalid units "{str(units)[:40]}". Valid values: {", ".join(UNITS)}')
    if layout not in (None, "iso", "number"):
        raise _problem(name, "format must be iso or number")
    is_cyclic = units in _CYCLIC
    is_iso = layout == "iso" and not is_cyclic
    count = group.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_COUNT:
        raise _problem(name, f"count must be a whole number from 1 to {MOST_COUNT}")
    if count > 1 and is_cyclic:
        raise _problem(name, f"Count {count} not supported for cyclic {units}")
    if count > 1 and is_iso:
        raise _problem(name, "Multiple time units not supported for ISO format")
    starting = group.get("starting")
    if starting is not None and is_cyclic:
        raise _problem(name, f"Parameter 'starting' not supported for cyclic {units}")
    if starting is not None and is_iso:
        raise _problem(name, "Parameter 'starting' not supported for ISO format")
    return TimeDimension(
        value["column"],
        units,
        _timezone(name, group.get("timezone", "utc")),
        count,
        None if starting is None else _starting(name, starting),
        is_iso,
    )


def _timezone(name: str, zone: object) -> str | int:
    if isinstance(zone, str) and _OFFSET.fullmatch(zone):
        zone = int(zone)
    if isinstance(zone, int | float) and not isinstance(zone, bool) and math.isfinite(zone) and zone == int(zone):
        if abs(zone) <= LARGEST_OFFSET_SECONDS:
            return int(zone)
    elif isinstance(zone, str) and zone and len(zone.encode("utf-8", "replace")) <= MAX_NAME_BYTES:
        return zone
    raise _problem(name, "timezone must be a name, or seconds from UTC")


def _starting(name: str, text: object) -> datetime:
    match = _STARTING.fullmatch(text) if isinstance(text, str) else None
    if match is not None:
        defaults = (1, 1, 1, 0, 0, 0)
        parts = [int(part) if part else default for part, default in zip(match.groups(), defaults, strict=True)]
        try:
            return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001  a wall clock
        except ValueError as error:
            raise _problem(name, f"starting is no moment: {error}") from error
    raise _problem(name, "starting must be a moment such as 2020, 2020-04 or 2020-04-01T12:30:00")


def _problem(name: str, text: str) -> InvalidMapConfig:
    return InvalidMapConfig(f"Invalid time dimension {name[:MAX_NAME_BYTES]}: {text}")
