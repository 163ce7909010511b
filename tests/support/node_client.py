"""Node programs of the tests, in folders with their own packages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.clients import WAIT
from tests.support.environment import ROOT, miss, need

FOLDER = ROOT / "tests/clients/oidc"


def node(folder: Path = FOLDER) -> str:
    """Return the path of Node; the packages of the folder are installed."""
    if not (folder / "node_modules").exists():
        miss(f"the packages of {folder.name} are not installed: run make test")
    return need("node")


class Refusal(Exception):
    """The error that the client raised, as a dict."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.error = error


class NodeClient:
    """A program that is controlled by lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, act: str, **fields: object) -> Any:
        """Return the answer of an act. Raises Refusal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": act, **fields}).encode() + b"\n")
        async with asyncio.timeout(WAIT):
            line = await self._process.stdout.readline()
        message = json.loads(line)
        if "error" in message:
            raise Refusal(message["error"])
        return message["answer"]


@asynccontextmanager
async def running_client(
    program: str, *arguments: str, folder: Path = FOLDER
) -> AsyncIterator[NodeClient]:
    process = await asyncio.create_subprocess_exec(
        node(folder),
        str(folder / program),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield NodeClient(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(WAIT):
            await process.wait()
