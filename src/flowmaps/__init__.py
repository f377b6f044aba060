"""Flow Maps: live, styled, clickable web maps from streams of survey datapoints."""

__version__ = "0.1.0"
