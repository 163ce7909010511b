"""The example sites of the client packages, each in its own process."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from tests.support.client_packages import python_command
from tests.support.environment import ROOT, need
from tests.support.waiting import eventually

EXAMPLES = {
    path.stem: path for path in sorted(ROOT.glob("packages/client-*/examples/*")) if path.is_file()
}


def command_of(example: Path) -> list[str]:
    """Return the command that the first line of an example names."""
    first = example.read_text().partition("\n")[0]
    [command] = re.findall(r"Run it with `(.+)`", first)
    return shlex.split(command)


@asynccontextmanager
async def running_example(
    example: Path, folder: Path, ports: Mapping[str, str]
) -> AsyncIterator[str]:
    """Run an example with the package that is installed in `folder`; yields its URL.

    ports: replace those that the example names.
    """
    copy = folder / example.name
    copy.write_text(moved(example.read_text(), ports))
    program, *words = [moved(word, ports) for word in command_of(example)]
    command = {
        "python": lambda: python_command(folder, *words),
        "node": lambda: [need("node"), *words],
    }.get(program, lambda: python_command(folder, "-m", program, *words))()
    log = copy.with_suffix(".log")
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{ports['8081']}"
    try:
        await eventually(partial(answers, url, process, log))
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def moved(text: str, ports: Mapping[str, str]) -> str:
    return re.sub("|".join(ports), lambda found: ports[found[0]], text)


async def answers(url: str, process: asyncio.subprocess.Process, log: Path) -> bool:
    assert process.returncode is None, log.read_text()
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as page:
            return page.status == 200
    except aiohttp.ClientError:
        return False
