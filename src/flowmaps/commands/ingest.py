"""``flow-maps ingest``: follow the topics."""

from __future__ import annotations

import typer

from flowmaps.commands.terminal import EnvFile, read_settings, stop_on_signal

app = typer.Typer(help="Follow the topics and write datapoints into the tenants' databases.")


@app.callback(invoke_without_command=True)
def run(context: typer.Context, env_file: EnvFile = None) -> None:
    """Follow the topics and write datapoints into the tenants' databases."""
    if context.invoked_subcommand is not None:
        return
    from flowmaps.ingest import run_ingest

    settings = read_settings(env_file)
    run_ingest(settings, stop=stop_on_signal())
