"""Show values of PostgreSQL as JSON has them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any


def plain_value(value: Any) -> Any:
    """Return a value of PostgreSQL as JSON has it: moments in ISO form, UTC; geometries stay hexadecimal EWKB."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            if not value.is_finite():
                return None
            return int(value) if value == value.to_integral_value() and abs(value) < 10**40 else float(value)
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo is not None else value
            text = moment.isoformat(timespec="milliseconds")
            return text.replace("+00:00", "Z") if value.tzinfo is not None else f"{text}Z"
        case date() | clock_time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case list() | tuple():
            return [plain_value(inner) for inner in value]
        case dict():
            return {str(name): plain_value(inner) for name, inner in value.items()}
        case _:
            return str(value)
