"""Counts the instructions of a server with valgrind's callgrind, in user space.

The counts hardly depend on the load of the machine. A server runs about fifty times as long.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from subprocess import PIPE, STDOUT

from tests.support.environment import need

OPTIONS = ("--tool=callgrind", "--instr-atstart=no", "--quiet")
CONTROL_TIMEOUT = 60.0
"""Seconds. A server answers when it next handles a signal or system call."""

NAME = re.compile(r"\((\d+)\)(?: (.*))?")
"""A name in a profile: its number, and the name itself where the number is used first."""

OTHERS = "other libraries"
PACKAGE = re.compile(r"/site-packages/([^/]+?)(?:\.cpython-[^/]*)?(?:/|$)")
LIBRARY = re.compile(r"/(lib[\w+-]+?)(?:[-.][\d.]*)?\.so")


def wrap(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return the command that runs a program under callgrind and writes profiles to `folder`."""
    return [need("valgrind"), *OPTIONS, f"--callgrind-out-file={folder}/profile", *arguments]


async def start(pid: int) -> None:
    """Count from now on."""
    await _control("--instr=on", pid)


async def take(pid: int, folder: Path) -> Counter[str]:
    """Return the instructions since the last call by library, and begin a new count."""
    before = _profiles(folder)
    await _control("--dump", pid)
    [profile] = _profiles(folder) - before
    return instructions(profile.read_text().splitlines())


def _profiles(folder: Path) -> set[Path]:
    return set(folder.glob("profile*"))


async def _control(option: str, pid: int) -> None:
    process = await asyncio.create_subprocess_exec(
        "callgrind_control", option, str(pid), stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(CONTROL_TIMEOUT):
        output, _ = await process.communicate()
    if process.returncode or b"Error" in output:
        raise RuntimeError(f"callgrind_control {option}: {output.decode()}")


def instructions(profile: Iterable[str]) -> Counter[str]:
    """Return the instructions in a profile by library, without those of called functions.

    The format is in "Callgrind Format Specification" of valgrind's manual.
    """
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    library, is_call = "", False
    for line in profile:
        if line.startswith(("ob=", "cob=")):
            found = NAME.fullmatch(line.partition("=")[2])
            assert found is not None, line
            if found[2] is not None:
                names[found[1]] = library_name(found[2])
            if line.startswith("ob="):
                library = names[found[1]]
        elif line.startswith("calls="):
            is_call = True
        elif line[:1] in "0123456789+-*" and line:
            if not is_call:
                counts[library] += int(line.split()[1])
            is_call = False
    return counts


def library_name(path: str) -> str:
    """Return the Python package or the library of an object file."""
    if package := PACKAGE.search(path):
        return package[1]
    if "lib-dynload" in path:
        return "standard library"
    if "/python3" in path or "/libpython3" in path:
        return "interpreter"
    library = LIBRARY.search(path)
    return library[1] if library else OTHERS
