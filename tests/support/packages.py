"""The packages for npm, built and installed into empty folders."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.environment import ROOT, miss, need
from tools.packages import build

FOLDER = ROOT / "tests/clients/packages"
TIMEOUT = 170.0


class Project:
    """An empty project in `folder` with the package `name`.

    Node finds the tools of FOLDER in the parent folder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        if not (FOLDER / "node_modules").exists():
            miss("the tools for packages are not installed: make test does so, by npm")
        self.root = folder / "project"
        self.root.mkdir()
        (folder / "node_modules").symlink_to(FOLDER / "node_modules")
        (self.root / "package.json").write_text('{"private": true, "type": "module"}')
        build(name, folder / "dist")
        [tarball] = (folder / "dist").iterdir()
        self.run(need("npm"), "install", "--offline", "--silent", str(tarball))

    def package(self, name: str) -> Path:
        """Return the folder of an installed package."""
        return self.root / "node_modules" / name

    def tool(self, script: str, *arguments: str) -> None:
        """Run a script of a tool, such as `vite/bin/vite.js`."""
        self.run(need("node"), str(FOLDER / "node_modules" / script), *arguments)

    def node(self, program: str) -> str:
        """Run the text of a module, and return its output."""
        return self.run(need("node"), "--input-type=module", "-e", program)

    def run(self, *command: str) -> str:
        process = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout
