"""Write datapoints to Kafka as survey applications do: Avro in the published schema, registered for the topic."""

from flowmaps.producer.avro import SubjectRegistry, datapoint_schema, push_records
from flowmaps.producer.files import FileFormat, FileRecords, read_file

__all__ = [
    "FileFormat",
    "FileRecords",
    "SubjectRegistry",
    "datapoint_schema",
    "push_records",
    "read_file",
]
