"""The command line: ``flow-maps serve | demo | check | token | cartocss | version``, and `flowmaps.commands`."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from flowmaps import __version__
from flowmaps.cartocss import CartoError, MapLayer, Message, build_map, compile_layer, relative_names
from flowmaps.commands import ingest, maps, push, rejected, tenants
from flowmaps.commands.terminal import EnvFile, console, errors, read_settings
from flowmaps.errors import FlowMapsError
from flowmaps.smoke import CheckFailed, Credentials, check_deployment, fetch_token

app = typer.Typer(
    help="Live, styled, clickable web maps from streams of survey datapoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(ingest.app, name="ingest")
app.command()(push.push)
app.add_typer(tenants.app, name="tenants")
app.add_typer(maps.app, name="maps")
app.add_typer(rejected.app, name="rejected")


def main() -> None:
    """Run the command line; what the user can mend is said in one line, a defect keeps its traceback."""
    try:
        app(standalone_mode=True)
    except FlowMapsError as error:
        errors.print(f"[red]error:[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
        sys.exit(2)


@app.command()
def serve(env_file: EnvFile = None) -> None:
    """Serve maps over HTTP."""
    from granian import Granian
    from granian.constants import Interfaces

    from flowmaps.tenants import migrate_master

    settings = read_settings(env_file)
    if env_file is not None:
        _export(env_file)
    _until_database(lambda: migrate_master(settings.database.url.get_secret_value()))
    server = Granian(
        "flowmaps.api.app:create",
        factory=True,
        address=settings.serve.host,
        port=settings.serve.port,
        interface=Interfaces.ASGI,
        workers=1,
        log_access=False,
        log_level="warning",  # type: ignore[arg-type]  # the enumeration takes its value
        respawn_failed_workers=False,
        workers_kill_timeout=10,
    )
    server.serve()


def _until_database(action: Callable[[], object]) -> None:
    """Do what needs the master database as soon as that answers."""
    import structlog

    from flowmaps.errors import DatabaseUnavailable
    from flowmaps.tenants import translate_database_errors

    deadline = time.monotonic() + 60
    while True:
        try:
            with translate_database_errors():
                action()
        except DatabaseUnavailable as error:
            if time.monotonic() > deadline:
                raise
            structlog.get_logger().warning("waiting for the master database", problem=error.message)
            time.sleep(1)
        else:
            return


def _export(env_file: Path) -> None:
    """Hand the file's settings to the process that serves, which reads its environment."""
    import os

    from dotenv import dotenv_values

    for name, value in dotenv_values(env_file).items():
        if value is not None:
            os.environ.setdefault(name, value)


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Check the demo against itself, then exit 0 or 1.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the server.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for the data, kept for the next run.")] = None,
    install: Annotated[bool, typer.Option(help="Install PostgreSQL and PostGIS where they are missing.")] = True,
) -> None:
    """Run the whole system on this machine, with real places to look at."""
    from flowmaps.demo.run import DemoOptions, default_data_dir, running_demo

    signal.signal(signal.SIGTERM, _interrupt)
    options = DemoOptions(port, data_dir or default_data_dir(), install)
    try:
        with running_demo(options, _progress()) as running:
            credentials = running.credentials
            console.print(f"\n[bold]Map:[/bold]     {running.map_url}", highlight=False, soft_wrap=True)
            console.print(f"[bold]Viewer:[/bold]  {running.url}/viewer/", highlight=False)
            console.print(
                f"[bold]Client:[/bold]  {credentials.client_id} / {credentials.client_secret}", highlight=False
            )
            if once:
                sys.exit(0 if _report(check_deployment(running.url, running.topics[0], credentials)) else 1)
            console.print("\nCtrl-C stops everything.", highlight=False)
            threading.Event().wait()
    except KeyboardInterrupt:
        console.print("\nstopped")


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _progress() -> Any:
    from flowmaps.demo.run import Progress

    bars: dict[str, tuple[Bar, Any]] = {}

    def count(name: str, done: int, total: int) -> None:
        if name not in bars:
            bar = Bar(TextColumn("  {task.description:8}"), BarColumn(), MofNCompleteColumn(), console=console)
            bar.start()
            bars[name] = bar, bar.add_task(name, total=total)
        bar, task = bars[name]
        bar.update(task, completed=done)
        if done >= total:
            bar.stop()

    return Progress(lambda text: console.print(f"• {text}", highlight=False, soft_wrap=True), count)


@app.command()
def check(  # noqa: PLR0917  each is an option
    url: Annotated[str, typer.Option(help="Address of the deployment.")],
    topic: Annotated[str, typer.Option(help="Topic of the tenant to make a map of.")],
    token: Annotated[str, typer.Option(envvar="FLOW_MAPS_TOKEN", help="A ready access token.")] = "",
    token_url: Annotated[str, typer.Option(help="Token endpoint of the issuer.")] = "",
    client_id: Annotated[str, typer.Option(envvar="OIDC_CLIENT_ID")] = "",
    client_secret: Annotated[str, typer.Option(envvar="OIDC_CLIENT_SECRET")] = "",
    ca_file: Annotated[Path | None, typer.Option(help="Authorities to verify the server with.")] = None,
) -> None:
    """Check a running deployment: token, map, one PNG, one grid, one vector tile."""
    credentials = Credentials(token, token_url, client_id, client_secret)
    if not token and not token_url:
        raise typer.BadParameter("give --token, or --token-url with --client-id and --client-secret")
    verify: bool | str = str(ca_file) if ca_file else True
    sys.exit(0 if _report(check_deployment(url, topic, credentials, verify=verify)) else 1)


def _report(steps: Iterator[Any]) -> bool:
    """Print each step; return whether all worked."""
    try:
        for step in steps:
            console.print(
                f"[green]ok[/green]   {step.name:12} {step.seconds * 1000:7.0f} ms  {step.detail}", highlight=False
            )
    except CheckFailed as error:
        console.print(f"[red]fail[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
        return False
    return True


@app.command()
def token(
    token_url: Annotated[str, typer.Option(help="Token endpoint of the issuer.")],
    client_id: Annotated[str, typer.Option(envvar="OIDC_CLIENT_ID")],
    client_secret: Annotated[str, typer.Option(envvar="OIDC_CLIENT_SECRET", prompt=True, hide_input=True)],
) -> None:
    """Print an access token, by the client credentials grant."""
    with httpx.Client(timeout=30) as client:
        typer.echo(fetch_token(client, Credentials("", token_url, client_id, client_secret)))


@app.command()
def cartocss(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The stylesheet.")],
    layer_id: Annotated[str, typer.Option(help="Id of the layer that selectors match.")] = "layer",
    version: Annotated[str, typer.Option(help="Mapnik version that the style was written for.")] = "3.0.12",
    own_ids: Annotated[
        bool, typer.Option("--own-ids", help="Take ids as written; without it any id stands for the layer.")
    ] = False,
) -> None:
    """Compile a stylesheet and print the Mapnik map; errors and warnings go to standard error."""
    try:
        style = compile_layer(
            file.read_text(encoding="utf-8"),
            layer_id=layer_id,
            version=version,
            resources=relative_names,
            stylesheet=str(file),
            bind_ids=not own_ids,
            source_positions=True,
        )
        text = build_map([MapLayer(style)])
    except CartoError as error:
        for message in error.messages:
            _print_message(message)
        count = len(error.messages)
        errors.print(f"{count} error{'s' if count > 1 else ''}", highlight=False)
        sys.exit(1)
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8: {error}") from error
    for message in style.messages:
        _print_message(message)
    typer.echo(text)


def _print_message(message: Message) -> None:
    """Print ``file:line:column: severity: text`` with the line and a caret below, as compilers do."""
    place = message.stylesheet
    if message.line is not None and message.column is not None:
        place += f":{message.line}:{message.column + 1}"
    color = "red" if message.severity == "error" else "yellow"
    head = f"[bold]{escape(place)}:[/bold] [{color}]{message.severity}:[/{color}] {escape(message.text)}"
    errors.print(head, highlight=False, soft_wrap=True)
    if message.column is not None:
        before = "".join(char if char == "\t" else " " for char in message.source_line[: message.column])
        errors.print(escape(f"  {message.source_line}"), highlight=False, soft_wrap=True)
        errors.print(f"  {before}[{color}]^[/{color}]", highlight=False, soft_wrap=True)


@app.command()
def version() -> None:
    """Print the versions of Flow Maps and its main parts."""
    typer.echo(f"flow-maps {__version__}")
    for part in ("mapnik", "psycopg", "confluent-kafka", "fastapi", "granian"):
        typer.echo(f"{part} {metadata.version(part)}")
