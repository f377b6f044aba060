"""Commands of the ingest side, one module a noun; `flowmaps.cli` puts them together."""
