"""Vet the SQL of a map with PostgreSQL's own grammar, and fill in its substitution tokens. Pure.

The reader role of a tenant's database is the wall; this is the second one, and it gives the clearer messages.
"""

from flowmaps.mapsql.tokens import (
    TokenValues,
    Variables,
    original_offset,
    subquery,
    substitute_tokens,
    substitute_variables,
    zoom_variables,
)
from flowmaps.mapsql.vetting import VettedSQL, position_of, vet, vet_expression

__all__ = [
    "TokenValues",
    "Variables",
    "VettedSQL",
    "original_offset",
    "position_of",
    "subquery",
    "substitute_tokens",
    "substitute_variables",
    "vet",
    "vet_expression",
    "zoom_variables",
]
