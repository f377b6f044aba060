"""Tell whether two queries differ in nothing but their constants."""

from __future__ import annotations

import postgast

from flowmaps.errors import InvalidSQL
from flowmaps.mapsql.tokens import blank_tokens


def shape(sql: str) -> str:
    """Return a text that is the same for queries that differ in constants alone; raise `InvalidSQL`."""
    try:
        return str(postgast.fingerprint(blank_tokens(sql)).hex)
    except postgast.PgQueryError as error:
        raise InvalidSQL(str(error.message), sqlstate="42601") from error
    except UnicodeEncodeError as error:
        raise InvalidSQL("the query is not valid Unicode", sqlstate="42601") from error
