"""The client packages for backends: built, and installed into empty folders.

The source tree is not on the path of what runs there.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.environment import ROOT, miss, need
from tools.packages import build

NODE_MODULES = ROOT / "tests/clients/backend/node_modules"

PYTHON_SITES = ("fastapi", "flask", "django", "itsdangerous", "starlette>=1.6", "uvicorn")
"""Packages that the examples need besides the client."""

NODE_SITES = ("cookie-session", "express")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` fills once, although several processes may run tests."""
    folder = shared_folder(factory) / name
    folder.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(folder.iterdir()):
            make(folder)
    return folder


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the run. That of a process of pytest-xdist is inside of it."""
    own = factory.getbasetemp()
    return own.parent if own.name.startswith("popen-") else own


def install_python(folder: Path) -> None:
    """Build the wheel, and install it with what it and the examples require."""
    build("client-python", folder / "dist")
    [wheel] = folder.glob("dist/*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True)
    [package] = metadata.distributions(name="scan-login-client", path=[str(folder)])
    link([*required(package, {"async"}), *map(Requirement, PYTHON_SITES)], folder)


def link(requirements: Iterable[Requirement], folder: Path) -> None:
    """Link what is required, directly or not, from the environment of the tests."""
    pending, linked = list(requirements), set()
    while pending:
        requirement = pending.pop()
        if str(requirement) in linked:
            continue
        linked.add(str(requirement))
        found = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found.version), f"{requirement}, not {found.version}"
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(str(found.locate_file(name)))
        pending += required(found, requirement.extras)


def required(package: metadata.Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, package.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def install_node(folder: Path) -> None:
    """Pack the package, and install the tarball with what it and the examples require."""
    if not NODE_MODULES.exists():
        miss("the packages of tests/clients/backend are not installed: run make test")
    need("npm")
    build("client-node", folder / "dist")
    [tarball] = folder.glob("dist/*.tgz")
    modules = folder / "node_modules"
    with tarfile.open(tarball) as archive:
        archive.extractall(modules, filter="data")
    (modules / "package").rename(modules / "scan-login-client")
    package = json.loads((modules / "scan-login-client/package.json").read_text())
    for name in (*package["dependencies"], *NODE_SITES):
        (modules / name).symlink_to(NODE_MODULES / name)


def python_command(folder: Path, *words: str) -> list[str]:
    """Return a command of Python that imports from `folder` and the standard library only."""
    return ["env", f"PYTHONPATH={folder}", sys.executable, "-S", *words]
