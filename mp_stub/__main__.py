"""The command line of the phone.

    python -m mp_stub scan SCENE --as alice       show the site and the browser of a login
    python -m mp_stub confirm SCENE --as alice    scan and confirm
    python -m mp_stub deny SCENE --as alice       scan and deny
    python -m mp_stub serve                       serve the phone page
    python -m mp_stub wechat                      serve a WeChat stub

Exit code: 0 success, 1 refused by the broker or not reachable, 2 wrong usage.
"""

import argparse
import asyncio
import errno
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress

from aiohttp import web

from mp_stub import user_agent
from mp_stub.phone import (
    BROKER,
    NAME_MAX,
    InvalidInput,
    Phone,
    Refused,
    ScanResult,
    Unreachable,
    parse_person,
    parse_scene,
)
from mp_stub.phone_page import build_phone_page
from mp_stub.wechat.platform import APPID, SECRET, MiniProgram, Platform
from mp_stub.wechat.server import WeChatStub


async def scan(phone: Phone, options: argparse.Namespace) -> str:
    return describe(await phone.scan(options.scene))


async def confirm(phone: Phone, options: argparse.Namespace) -> str:
    result = await phone.scan(options.scene)
    choices = choices_of(result)
    if choices and options.number is None:
        raise InvalidInput(f"use --number with the number in the browser, {' or '.join(choices)}")
    answer = await phone.confirm(result["login_id"], options.number)
    if "match" in answer:
        return printable(f"type {answer['match']} in the browser that shows the code")
    return (
        f"confirmed: signed in to {site_name(result)} as {phone.name}, login {result['login_id']}"
    )


async def deny(phone: Phone, options: argparse.Namespace) -> str:
    result = await phone.scan(options.scene)
    await phone.deny(result["login_id"])
    return f"denied: not signed in to {site_name(result)}, login {result['login_id']}"


ACTS: Mapping[str, Callable[[Phone, argparse.Namespace], Awaitable[str]]] = {
    "scan": scan,
    "confirm": confirm,
    "deny": deny,
}
HELP: Mapping[str, str] = {
    "scan": "scan a code and print its site, browser, address and time",
    "confirm": "scan a code and confirm its login",
    "deny": "scan a code and deny its login",
    "serve": "serve the phone page, for a second tab or the camera of a real phone",
    "wechat": "serve a stub of WeChat's server API, with faults on demand",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(
        escape_dashed_scenes(sys.argv[1:] if arguments is None else arguments)
    )
    work = SERVERS[options.act](options) if options.act in SERVERS else act(options)
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        return 130  # the exit code of shells after Ctrl-C: 128 + SIGINT


async def act(options: argparse.Namespace) -> int:
    try:
        async with Phone(
            broker=options.broker,
            app=options.app,
            name=options.name,
            socketio=options.socketio,
            wechat=options.wechat,
        ) as phone:
            print(await ACTS[options.act](phone, options))
    except Refused as refusal:
        hint = f" (register at {refusal.register_url})" if refusal.register_url else ""
        return report_failure(f"{refusal}{hint}")
    except (InvalidInput, Unreachable) as cause:
        return report_failure(str(cause))
    return 0


async def serve(options: argparse.Namespace) -> int:
    site = build_phone_page(broker_url=options.broker, app=options.app, wechat_url=options.wechat)

    def ready_line(url: str) -> str:
        return f"phone page at {url}, broker at {options.broker}"

    return await listen(site, options, ready_line)


async def wechat(options: argparse.Namespace) -> int:
    stub = WeChatStub(Platform([MiniProgram(options.appid, options.secret)]), link=options.link)

    def ready_line(url: str) -> str:
        return f"WeChat stub at {url}, appid {options.appid}, secret {options.secret}"

    return await listen(stub.application(), options, ready_line)


SERVERS: Mapping[str, Callable[[argparse.Namespace], Coroutine[None, None, int]]] = {
    "serve": serve,
    "wechat": wechat,
}


async def listen(
    site: web.Application, options: argparse.Namespace, ready_line: Callable[[str], str]
) -> int:
    """Serve `site` until SIGINT or SIGTERM. Prints the ready line with the URL."""
    # No access log: URLs of the page contain the scene, URLs of WeChat the secret.
    # Compressed request bodies are refused, so aiohttp does not decompress them.
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=1, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
        print(ready_line(f"http://{format_host(options.host)}:{options.port}"), flush=True)
        await wait_for_signal()
    except OSError as cause:
        return report_failure(listen_error(options, cause))
    finally:
        await runner.cleanup()
    return 0


async def wait_for_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def listen_error(options: argparse.Namespace, cause: OSError) -> str:
    if cause.errno == errno.EADDRINUSE:
        return f"port {options.port} on {options.host} is in use; choose another with --port"
    return f"cannot listen on {options.host} port {options.port}: {cause.strerror or cause}"


def format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def report_failure(message: str) -> int:
    print(printable(message), file=sys.stderr)
    return 1


def describe(result: ScanResult) -> str:
    """The facts that the person must see before confirming, one per line."""
    browser = result["browser"]
    began = time.strftime("%H:%M:%S", time.localtime(time.time() - browser["since"]))
    agent = browser["user_agent"]
    facts = {
        "site": site_name(result),
        **({"address": browser["origin"]} if "origin" in browser else {}),
        "browser": f"{user_agent.parse(agent)} ({agent})",
        "from": browser["ip"],
        "since": f"{browser['since']} seconds ago, {began}",
        "login": f"{result['login_id']}, {result['state']}, expires in {result['expires_in']} s",
        **({"number": " or ".join(choices_of(result))} if choices_of(result) else {}),
    }
    return "\n".join(f"{fact:<9}{printable(str(value))}" for fact, value in facts.items())


def choices_of(result: ScanResult) -> list[str]:
    """The numbers of which the browser shows one; none if no number is compared."""
    return result["match"].get("choices", []) if "match" in result else []


def site_name(result: ScanResult) -> str:
    return printable(f"{result['app']['name']} ({result['app']['id']})")


def printable(text: str) -> str:
    """`text` without control characters. A User-Agent header may contain terminal sequences."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def build_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m mp_stub",
        description="Simulate a phone: scan a login code, then confirm or deny the login.",
        epilog="The environment variable BROKER_URL is the default of --broker.",
    )
    acts = top.add_subparsers(dest="act", required=True, metavar="ACT")
    for name in ACTS:
        add_act(acts.add_parser(name, help=HELP[name], description=HELP[name]))
    acts.choices["confirm"].add_argument(
        "--number", metavar="NN", help="the number in the browser, if the login has a match"
    )
    add_serve(acts.add_parser("serve", help=HELP["serve"], description=HELP["serve"]))
    add_wechat(acts.add_parser("wechat", help=HELP["wechat"], description=HELP["wechat"]))
    return top


def add_act(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "scene",
        metavar="SCENE",
        type=argument_type(parse_scene),
        help="the scene of the code, or the link in the code (in quotes)",
    )
    command.add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        default="alice",
        type=argument_type(parse_person),
        help=f"name of the test person, at most {NAME_MAX} characters (default: %(default)s)",
    )
    command.add_argument("--socketio", action="store_true", help="use Socket.IO instead of HTTP")
    add_broker(command)


def add_serve(command: argparse.ArgumentParser) -> None:
    add_listen_options(command, 8090)
    add_broker(command)


def add_wechat(command: argparse.ArgumentParser) -> None:
    add_listen_options(command, 8091)
    command.add_argument("--appid", default=APPID, help="the appid (default: %(default)s)")
    command.add_argument("--secret", default=SECRET, help="the AppSecret (default: %(default)s)")
    command.add_argument(
        "--link",
        metavar="URL",
        default="http://127.0.0.1:8090/",
        help="the page that its codes open (default: %(default)s)",
    )


def add_listen_options(command: argparse.ArgumentParser, default_port: int) -> None:
    command.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    command.add_argument(
        "--port", type=parse_port, default=default_port, help="default: %(default)s"
    )


def add_broker(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--broker",
        metavar="URL",
        default=os.environ.get("BROKER_URL") or BROKER,
        help="URL of the broker (default: %(default)s)",
    )
    command.add_argument(
        "--app", default="default", help="id of the app at the broker (default: %(default)s)"
    )
    command.add_argument(
        "--wechat",
        metavar="URL",
        help="URL of a WeChat stub, if the broker uses the provider wechat",
    )


def argument_type(parse_text: Callable[[str], str]) -> Callable[[str], str]:
    """`parse_text` with its errors as ArgumentTypeError, so that argparse prints the message."""

    def parse(text: str) -> str:
        try:
            return parse_text(text)
        except InvalidInput as cause:
            raise argparse.ArgumentTypeError(str(cause)) from None

    return parse


def parse_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError("expected a number from 1 to 65535")
    return int(text)


def escape_dashed_scenes(arguments: Sequence[str]) -> list[str]:
    """Turn a scene that begins with a dash into a query, which `parse_scene` accepts.

    One scene in 64 begins with a dash. argparse would read it as an option.
    """
    return [
        f"?scene={argument}" if re.fullmatch(r"-[\w-]{15,31}", argument, re.ASCII) else argument
        for argument in arguments
    ]


if __name__ == "__main__":
    sys.exit(main())
