"""The viewer page: static files, served under ``/viewer/``."""
