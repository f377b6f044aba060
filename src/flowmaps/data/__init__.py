"""Data that ships with the package: the Avro schema of a datapoint."""
