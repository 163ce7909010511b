"""The `scan-login` command."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from broker import __version__
from broker.app import build
from broker.apps.model import DEFAULT_APP
from broker.cli import apps, config, pool, records, users
from broker.cli.support import ConfigFile, read_settings, settings_file, with_records
from broker.errors import StartupError
from broker.infrastructure.crypto.sealing import SealKeyFile
from broker.infrastructure.observability import logging as logs
from broker.infrastructure.runtime import process
from broker.infrastructure.runtime.listening import ListenPlace, reserved
from broker.infrastructure.runtime.server import DrainPlan, Site, serve_until_signal
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.runtime.supervisor import Supervisor
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import PREFIX
from broker.parts import try_provider
from broker.settings import ROLES, find_values
from broker.tokens.keys import KEY_SET_MAX_AGE, KeyRing, SigningKeyFile, open_key_ring

STOP_TIMEOUT = 8.0
"""Seconds in which a worker that is told to end, and has drained, has ended."""

command = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A scan-login broker.",
    context_settings={"help_option_names": ["-h", "--help"]},  # commands below inherit it
)

key = typer.Typer(
    no_args_is_help=True, help="The keys that sign tokens, and those that seal secrets."
)

provider = typer.Typer(no_args_is_help=True, help="Who draws codes and proves phones.")

command.add_typer(config.command, name="config")

command.add_typer(key, name="key")

command.add_typer(apps.command, name="app")

command.add_typer(pool.command, name="pool")

command.add_typer(users.command, name="user")

command.add_typer(records.command, name="records")

command.add_typer(provider, name="provider")


@command.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@command.command()
def serve(
    file: ConfigFile = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on, or several, separated by commas.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the port.", show_default=False)
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(help=f"What to serve, of {','.join(ROLES)}; everything when not given."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="`stock` falls back on python-engineio's transport.")
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Run the broker.  `scan-login config show` lists all settings."""
    options = {"workers": workers, "roles": roles, "engine": engine, "host": host}
    if not worker:  # the supervisor has bound the port and passes it in the environment
        options["port"] = port
    settings = read_settings(
        file, **{name: value for name, value in options.items() if value is not None}
    )
    logs.configure(settings.log_level)
    if worker:
        _serve(settings, supervised=True)
        return
    found = find_values(settings_file(file))
    for sentence in [*found.unknown, *found.warnings]:
        print(f"warning: {sentence}", file=sys.stderr)
    if settings.workers > 1:
        _supervise(settings)
    else:
        _serve(settings, supervised=False)


def _serve(settings: Settings, *, supervised: bool) -> None:
    files = process.raise_file_limit()
    broker = build(settings)
    sites = [
        Site(
            "broker",
            broker.public,
            settings.host,
            settings.port,
            f"{PREFIX}PORT",
            shared=supervised,
        ),
        Site(
            "metrics",
            broker.admin,
            settings.admin_host,
            settings.admin_port,
            f"{PREFIX}ADMIN_PORT",
            needed=False,
        ),
    ]

    def ready(addresses: dict[str, str]) -> None:
        process.freeze_gc()
        logs.announce(
            f"scan-login {__version__} ready on {addresses['broker']} "
            f"(public {settings.public_url}, state {urlsplit(settings.state_url).scheme}, "
            f"provider {settings.provider}, open files {files})"
        )

    drain = DrainPlan(broker.drain, settings.drain)
    process.run(
        serve_until_signal(sites, ready, drain, trouble=broker.trouble, supervised=supervised)
    )


def _supervise(settings: Settings) -> None:
    """Run workers: this same command once more, with `--worker`.  Raises WorkerFailure."""
    place = ListenPlace("broker", settings.host, settings.port, f"{PREFIX}PORT")
    with reserved(place) as port:
        supervisor = Supervisor(
            [sys.executable, *sys.orig_argv[1:], "--worker"],
            [_of_worker(settings, port, place) for place in range(settings.workers)],
            stop_timeout=settings.drain + STOP_TIMEOUT,
        )
        asyncio.run(supervisor.run(logs.announce))


def _of_worker(settings: Settings, port: int, place: int) -> dict[str, str]:
    """What a worker is told by its environment, which weighs more than any file."""
    admin_port = settings.admin_port and settings.admin_port + place
    told = {f"{PREFIX}PORT": str(port), f"{PREFIX}ADMIN_PORT": str(admin_port)}
    if "instance" in settings[ServerSettings].model_fields_set:
        told[f"{PREFIX}INSTANCE"] = f"{settings.instance}-{place}"
    return told


@command.command()
def demo(
    host: Annotated[
        str,
        typer.Option(envvar="HOST", help="0.0.0.0 lets a phone on the same network take part."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="PORT", min=1, max=65535, help="The broker's port.")
    ] = 8000,
    site_port: Annotated[
        int, typer.Option(envvar="SITE_PORT", min=1, max=65535, help="The site's port.")
    ] = 8080,
    phone_port: Annotated[
        int, typer.Option(envvar="PHONE_PORT", min=1, max=65535, help="The phone page's port.")
    ] = 8090,
    wechat_port: Annotated[
        int, typer.Option(envvar="WECHAT_PORT", min=1, max=65535, help="The pretend WeChat's port.")
    ] = 8091,
    provider: Annotated[
        Literal["pretend", "wechat"],
        typer.Option(envvar="PROVIDER", help="`wechat` goes the whole way, to a pretend WeChat."),
    ] = "pretend",
    pool: Annotated[
        bool,
        typer.Option(
            "--pool", envvar="POOL", help="Codes are drawn first, by a pretend WeChat; see it go."
        ),
    ] = False,
) -> None:
    """Run broker, example site and phone page in one go; no WeChat account is needed."""
    from broker.cli.demo import DemoPorts, run_demo

    ports = DemoPorts(port, site_port, phone_port, wechat_port)
    asyncio.run(run_demo(host, ports, "wechat" if pool else provider, pooled=pool))


@provider.command("check")
def check_provider(
    file: ConfigFile = None,
    app: Annotated[str, typer.Option(help="Whose provider to ask.")] = DEFAULT_APP,
) -> None:
    """Draw one code, and say what keeps the provider from it."""
    settings = read_settings(file)
    logs.configure("critical")  # what fails is said once, below
    name = with_records(settings, lambda opened: try_provider(settings, opened, app))
    print(f"the provider {name} draws codes")


@key.command()
def create(file: ConfigFile = None) -> None:
    """Create the key file and the seal file if they do not exist."""
    settings = read_settings(file)
    keys = SigningKeyFile(settings.key_file)
    open_key_ring(keys, settings.token_algorithm)
    print(f"token keys: {keys.path.absolute()}")
    if not settings.seal_keys:
        SealKeyFile(settings.seal_file).keys()
        print(f"seal keys: {settings.seal_file.absolute()}")


@key.command()
def rotate(file: ConfigFile = None) -> None:
    """Sign with the next key from now on, and publish another next one.

    Running brokers notice within seconds; tokens signed before stay good.
    """
    settings = read_settings(file)
    keys = SigningKeyFile(settings.key_file)
    algorithm = settings.token_algorithm
    rotated = _ring(keys).rotated(
        now=time.time(), token_lifetime=settings.token_lifetime, algorithm=algorithm
    )
    keys.save(rotated)
    print(f"{keys.path.absolute()}:")
    print(f"signing with {rotated.present['kid']}, next is {rotated.next['kid']}")
    print(
        f"Sites may hold a key set that is {KEY_SET_MAX_AGE} seconds old: "
        "rotate again only after that."
    )


@key.command("list")
def list_keys(file: ConfigFile = None) -> None:
    """Print the keys of the key set: present, next, and former ones still needed."""
    settings = read_settings(file)
    ring = _ring(SigningKeyFile(settings.key_file))
    places = ["present", "next"]
    for position, entry in enumerate(ring.public(time.time())):
        place = places[position] if position < len(places) else "former"
        print(f"{place:8} {entry['alg']} {entry['kid']}")


@key.command()
def rewrap(
    file: ConfigFile = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a newer seal key first, in the seal file.")
    ] = False,
) -> None:
    """Seal all apps' secrets anew, under the newest seal key."""
    settings = read_settings(file)
    if new_key and settings.seal_keys:
        sys.exit(
            f"the seal keys are the settings' own: put a new one first in {PREFIX}SEAL_KEYS, "
            "start every broker anew, and then rewrap"
        )
    if new_key:
        SealKeyFile(settings.seal_file).add()
    count = with_records(settings, lambda opened: opened.app_admin.rewrap())
    print(f"secrets that were sealed under an older key: {count}; all are under the newest now")


def _ring(keys: SigningKeyFile) -> KeyRing:
    ring = keys.load()
    if ring is None:
        sys.exit(
            f"there are no keys in {keys.path.absolute()}: run scan-login key create, "
            f"or set {PREFIX}KEY_FILE to the broker's key file"
        )
    return ring


def main() -> None:
    logs.configure("warning")
    logs.capture_hooks()
    try:
        command(prog_name="scan-login")
    except StartupError as error:
        logs.flush()  # earlier lines come first
        sys.exit(str(error))


if __name__ == "__main__":
    main()
