"""`scan-login serve`: run the broker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from broker import __version__
from broker.cli.support import ConfigFile, read_settings, settings_file
from broker.infrastructure.observability import logging as logs
from broker.infrastructure.runtime import process
from broker.infrastructure.runtime.listening import ListenAddress, reserve_port
from broker.infrastructure.runtime.service_manager import READY, notify_service_manager
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.runtime.supervisor import Supervisor
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import PREFIX
from broker.providers.settings import ProviderSettings
from broker.settings import ROLES, find_values
from broker.state.settings import StateSettings

STOP_TIMEOUT = 8.0
"""Seconds for a worker to end after its drain."""


def serve(
    file: ConfigFile = None,
    host: Annotated[
        str | None,
        typer.Option(help="Addresses to listen on, separated by commas.", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 selects a free one.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of processes on the port. More than one needs Redis.", show_default=False
        ),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            help="Parts of the API to serve, separated by commas: "
            f"{', '.join(ROLES)}. Default: all."
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine.IO implementation: own, or stock (python-engineio). Default: own."
        ),
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Run the broker. `scan-login config show` lists all settings."""
    options = {"workers": workers, "roles": roles, "engine": engine, "host": host}
    if worker:
        run_worker(file, options)
    else:
        run_main_process(file, {**options, "port": port})


def run_worker(file: Path | None, options: Mapping[str, object]) -> None:
    """Serve on the port that the supervisor has bound and passes in the environment."""
    run_broker(configure(file, options), is_supervised=True)


def run_main_process(file: Path | None, options: Mapping[str, object]) -> None:
    print_warnings(file)
    settings = configure(file, options)
    if settings[ServerSettings].workers > 1:
        run_workers(settings)
    else:
        run_broker(settings, is_supervised=False)


def configure(file: Path | None, options: Mapping[str, object]) -> Settings:
    """Read the settings, with the options that are not None, and configure the log."""
    given = {name: value for name, value in options.items() if value is not None}
    settings = read_settings(file, **given)
    logs.configure(settings[ServerSettings].log_level)
    return settings


def print_warnings(file: Path | None) -> None:
    found = find_values(settings_file(file))
    for warning in [*found.unknown, *found.warnings]:
        print(f"warning: {warning}", file=sys.stderr)


def run_broker(settings: Settings, *, is_supervised: bool) -> None:
    """Serve until a signal arrives."""
    # Other commands start without the server's libraries.
    from broker.app import build
    from broker.infrastructure.runtime.server import DrainPlan, Site, serve_until_signal

    files = process.raise_file_limit()
    broker = build(settings)
    server = settings[ServerSettings]
    public = Site(
        *("broker", broker.public, server.host, server.port, f"{PREFIX}PORT"),
        shared=is_supervised,
    )
    admin = Site(
        *("metrics", broker.admin, server.admin_host, server.admin_port, f"{PREFIX}ADMIN_PORT"),
        needed=False,
    )

    def on_ready(addresses: dict[str, str]) -> None:
        process.freeze_gc()
        announce_ready(ready_line(settings, addresses["broker"], files), not is_supervised)
        if server.admin_token and admin.name in addresses:
            logs.announce(f"admin page on {addresses[admin.name]}")

    drain = DrainPlan(broker.drain, server.drain)
    process.run(
        serve_until_signal(
            [public, admin],
            on_ready,
            drain,
            unready_reason=broker.unready_reason,
            supervised=is_supervised,
        )
    )


def announce_ready(line: str, is_main_process: bool = True) -> None:
    """Print the ready line. The main process also reports to the service manager."""
    logs.announce(line)
    if is_main_process:
        notify_service_manager(READY)


def ready_line(settings: Settings, address: str, open_files: int) -> str:
    return (
        f"scan-login {__version__} ready on {address} "
        f"(public {settings[ServerSettings].public_url}, "
        f"state {urlsplit(settings[StateSettings].state_url).scheme}, "
        f"provider {settings[ProviderSettings].provider}, open files {open_files})"
    )


def run_workers(settings: Settings) -> None:
    """Run this command as several processes, with `--worker`.  Raises WorkerFailure."""
    server = settings[ServerSettings]
    requested = ListenAddress("broker", server.host, server.port, f"{PREFIX}PORT")
    with reserve_port(requested) as port:
        supervisor = Supervisor(
            [sys.executable, *sys.orig_argv[1:], "--worker"],
            [worker_environment(server, port, number) for number in range(server.workers)],
            stop_timeout=server.drain + STOP_TIMEOUT,
        )
        asyncio.run(supervisor.run(announce_ready))


def worker_environment(server: ServerSettings, port: int, number: int) -> dict[str, str]:
    """Return the variables of one worker.  The environment has priority over files."""
    admin_port = server.admin_port and server.admin_port + number
    variables = {f"{PREFIX}PORT": str(port), f"{PREFIX}ADMIN_PORT": str(admin_port)}
    if "instance" in server.model_fields_set:
        variables[f"{PREFIX}INSTANCE"] = f"{server.instance}-{number}"
    return variables
