"""Products in separate environments, configured by the output of `app show --oidc`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from broker.cli.oidc_products import PRODUCTS, SECRET_PLACEHOLDER
from deploy.processes import start_process, wait_until_ready
from tests.support.commands import run
from tests.support.environment import ROOT, miss
from tests.support.oidc_browser import ScanBrowser
from tests.support.oidc_provider import Provider

PROGRAMS = ROOT / "tests/interop/node_modules/.bin"
"""The programs of tests/interop/package.json."""

START_TIMEOUT = 120.0
"""Maximum seconds until a product is ready. pgAdmin may take 50 on a busy machine."""


class Interop(NamedTuple):
    """A provider, and the commands that configure products for it.

    records: the SQLite file of the provider, which `scan-login` reads.
    """

    provider: Provider
    records: Path

    async def add_product(self, name: str, url: str, **fields: object) -> str:
        """Add an app for the product at `url`, and return what `app show --oidc NAME` prints.

        The secret is in the place of its placeholder. The issuer is plain http on a loopback
        address, and nothing else is reported.
        """
        product = PRODUCTS[name]
        usual: dict[str, object] = {"redirect_urls": [url + product.callback]}
        if product.logout is not None:
            usual["post_logout_urls"] = [url + product.logout]
        if product.backchannel is not None:
            usual["backchannel_logout_url"] = url + product.backchannel
        fields = {**usual, "scopes": list(product.scopes), **fields}
        secret = await self.provider.add_app(name, **fields)
        return (await self._printed(name)).replace(SECRET_PLACEHOLDER, secret)

    async def _printed(self, name: str) -> str:
        variables = {
            "SCAN_LOGIN_RECORDS_URL": f"sqlite+aiosqlite:///{self.records}",
            "SCAN_LOGIN_PUBLIC_URL": self.provider.issuer,
        }
        words = ("app", "show", name, "--oidc", name)
        done = await asyncio.to_thread(run, self.records.parent, *words, **variables)
        assert done.returncode == 0, done.stderr
        [warning] = done.stderr.splitlines()
        assert "is not https" in warning
        return done.stdout

    def browser(self, *secure: str) -> ScanBrowser:
        """secure: origins whose Secure cookies the browser sends although they are http."""
        return ScanBrowser(self.provider.issuer, secure=secure)


def program_of(product: str, program: str) -> str:
    """Return the path of a program in the environment of a product."""
    return _existing(ROOT / "build/interop" / product / "bin" / program)


def node_program(program: str) -> str:
    return _existing(PROGRAMS / program)


def _existing(path: Path) -> str:
    if not path.exists():
        miss(f"{path.name} is not installed: run make interop")
    return str(path)


@asynccontextmanager
async def running_product(
    command: list[str], folder: Path, ready_url: str, **variables: str
) -> AsyncIterator[Path]:
    """Run a server until the end of the context; yields its log. `ready_url` answers 200 then."""
    name = Path(command[0]).name
    process = await start_process(name, command, folder, cwd=folder, environment=variables)
    try:
        await wait_until_ready(process, ready_url, within=START_TIMEOUT)
        yield process.log
    finally:
        await process.stop()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a process that the server has left behind
