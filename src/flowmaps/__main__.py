"""Run the command line as ``python -m flowmaps``."""

from flowmaps.cli import main

main()
