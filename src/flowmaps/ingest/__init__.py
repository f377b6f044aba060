"""Read datapoints from Kafka into the tenants' databases, each with exactly-once effect."""

from flowmaps.ingest.run import run_ingest

__all__ = ["run_ingest"]
