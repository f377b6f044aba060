"""The command line: ``flow-maps serve | ingest | demo | push | check | token | tenants | cartocss | version``."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import httpx
import psycopg
import typer
from confluent_kafka import Producer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from flowmaps import __version__
from flowmaps.cartocss import CartoError, MapLayer, Message, build_map, compile_layer, relative_names
from flowmaps.errors import FlowMapsError
from flowmaps.settings import Settings, load_settings
from flowmaps.smoke import CheckFailed, Credentials, check_deployment, fetch_token
from flowmaps.telemetry import configure_logs

app = typer.Typer(
    help="Live, styled, clickable web maps from streams of survey datapoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenants_app = typer.Typer(help="Look after the tenants' databases.", no_args_is_help=True)
app.add_typer(tenants_app, name="tenants")
_console = Console()
_errors = Console(stderr=True)

EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Settings file; default: .env where it exists.")]


def main() -> None:
    """Run the command line; what the user can mend is said in one line, a defect keeps its traceback."""
    try:
        app(standalone_mode=True)
    except FlowMapsError as error:
        _errors.print(f"[red]error:[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _settings(env_file: Path | None) -> Settings:
    settings = load_settings(env_file)
    configure_logs(settings.log)
    return settings


@app.command()
def serve(env_file: EnvFile = None) -> None:
    """Serve maps over HTTP."""
    from granian import Granian
    from granian.constants import Interfaces

    from flowmaps.tenants import migrate_master

    settings = _settings(env_file)
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
def ingest(env_file: EnvFile = None) -> None:
    """Follow the topics and write datapoints into the tenants' databases."""
    from flowmaps.ingest import run_ingest

    settings = _settings(env_file)
    run_ingest(settings, stop=_stop_on_signal())


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()

    def handle(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


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
            _console.print(f"\n[bold]Map:[/bold]     {running.map_url}", highlight=False, soft_wrap=True)
            _console.print(f"[bold]Viewer:[/bold]  {running.url}/viewer/", highlight=False)
            _console.print(
                f"[bold]Client:[/bold]  {credentials.client_id} / {credentials.client_secret}", highlight=False
            )
            if once:
                sys.exit(0 if _report(check_deployment(running.url, running.topics[0], credentials)) else 1)
            _console.print("\nCtrl-C stops everything.", highlight=False)
            threading.Event().wait()
    except KeyboardInterrupt:
        _console.print("\nstopped")


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _progress() -> Any:
    from flowmaps.demo.run import Progress

    bars: dict[str, tuple[Bar, Any]] = {}

    def count(name: str, done: int, total: int) -> None:
        if name not in bars:
            bar = Bar(TextColumn("  {task.description:8}"), BarColumn(), MofNCompleteColumn(), console=_console)
            bar.start()
            bars[name] = bar, bar.add_task(name, total=total)
        bar, task = bars[name]
        bar.update(task, completed=done)
        if done >= total:
            bar.stop()

    return Progress(lambda text: _console.print(f"• {text}", highlight=False, soft_wrap=True), count)


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
            _console.print(
                f"[green]ok[/green]   {step.name:12} {step.seconds * 1000:7.0f} ms  {step.detail}", highlight=False
            )
    except CheckFailed as error:
        _console.print(f"[red]fail[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
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
def push(
    topic: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="One record a line, as JSON.")],
    env_file: EnvFile = None,
) -> None:
    """Write records of a file to a topic, as Avro in the published schema."""
    from flowmaps.ingest.kafka import kafka_config
    from flowmaps.producer import push_records
    from flowmaps.schemas import open_registry_client

    settings = _settings(env_file)
    registry = open_registry_client(settings.registry)
    producer = Producer({**kafka_config(settings), "linger.ms": 5})
    count = push_records(producer, registry, ((topic, record) for record in _lines(file)))
    _console.print(f"{count} records written to {topic}", highlight=False)


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise typer.BadParameter(f"{file}, line {number}: {error}") from error
            if not isinstance(record, dict):
                raise typer.BadParameter(f"{file}, line {number}: not an object")
            yield record


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
        _errors.print(f"{count} error{'s' if count > 1 else ''}", highlight=False)
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
    _errors.print(head, highlight=False, soft_wrap=True)
    if message.column is not None:
        before = "".join(char if char == "\t" else " " for char in message.source_line[: message.column])
        _errors.print(escape(f"  {message.source_line}"), highlight=False, soft_wrap=True)
        _errors.print(f"  {before}[{color}]^[/{color}]", highlight=False, soft_wrap=True)


@app.command()
def version() -> None:
    """Print the versions of Flow Maps and its main parts."""
    typer.echo(f"flow-maps {__version__}")
    for part in ("mapnik", "psycopg", "confluent-kafka", "fastapi", "granian"):
        typer.echo(f"{part} {metadata.version(part)}")


@tenants_app.command("list")
def tenants_list(env_file: EnvFile = None) -> None:
    """List the tenants: topic, state, server and database."""
    from flowmaps.tenants import list_tenants, translate_database_errors

    settings = _settings(env_file)
    table = Table("topic", "state", "server", "database", box=None)
    with translate_database_errors(), psycopg.connect(settings.database.url.get_secret_value()) as conn:
        for tenant in list_tenants(conn, settings):
            table.add_row(escape(tenant.topic), tenant.state, tenant.server, tenant.database)
    _console.print(table)


@tenants_app.command("create")
def tenants_create(topic: str, env_file: EnvFile = None) -> None:
    """Create a topic's database before its first datapoint comes."""
    from flowmaps.tenants import migrate_master, provision_tenant

    settings = _settings(env_file)
    migrate_master(settings.database.url.get_secret_value())
    tenant = provision_tenant(settings, topic)
    _console.print(f"{escape(tenant.topic)}: {tenant.database} on {tenant.server}", highlight=False)


@tenants_app.command("migrate")
def tenants_migrate(env_file: EnvFile = None) -> None:
    """Bring the master database and every tenant's database up to date."""
    from flowmaps.tenants import migrate_master, migrate_tenants

    settings = _settings(env_file)
    migrate_master(settings.database.url.get_secret_value())
    for topic, steps in migrate_tenants(settings).items():
        _console.print(f"{escape(topic)}: {', '.join(steps) or 'up to date'}", highlight=False)


@tenants_app.command("rotate")
def tenants_rotate(topic: str, env_file: EnvFile = None) -> None:
    """Give the topic's roles new passwords."""
    from flowmaps.tenants import rotate_credentials

    rotate_credentials(_settings(env_file), topic)
    _console.print(f"{escape(topic)}: new passwords", highlight=False)


@tenants_app.command("drop")
def tenants_drop(
    topic: str,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    env_file: EnvFile = None,
) -> None:
    """Delete a tenant: its database with all its data, and its roles."""
    from flowmaps.tenants import drop_tenant

    if not yes:
        typer.confirm(f"Delete the database of {topic} with all its data?", abort=True)
    drop_tenant(_settings(env_file), topic)
    _console.print(f"{escape(topic)}: deleted", highlight=False)
