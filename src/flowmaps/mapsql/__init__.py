"""Vet the SQL of a map with PostgreSQL's own grammar, and fill in its substitution tokens. Pure.

The reader role of a tenant's database is the wall; this is the second one, and it gives the clearer messages.
"""

from flowmaps.mapsql.tokens import TokenValues, subquery, substitute_tokens
from flowmaps.mapsql.vetting import VettedSQL, vet

__all__ = ["TokenValues", "VettedSQL", "subquery", "substitute_tokens", "vet"]
