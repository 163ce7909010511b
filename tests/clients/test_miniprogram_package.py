"""The npm package for mini programs, installed and laid out as *Build npm* does.

miniprogram/package.test.js runs the examples of the documentation with it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.builders import FixedDirectory, StartBroker
from tests.support.environment import ROOT, need
from tests.support.miniprogram import run_suite
from tests.support.packages import FOLDER, TIMEOUT, Project

PACKAGE = "@scan-login/miniprogram"
FILES = ["app.js", "pages/index/wsLogin.json", "pages/index/wsLogin.wxml"]
FILES += ["pages/index/wsLogin.js", "pages/index/own.js", "pages/index/own.wxml"]
FILES += ["own_server.js", "chat.js", "pages/tunnel/tunnel.js"]
"""The files of the examples in docs/miniprogram.md, in their order."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("miniprogram"), "miniprogram")


def write_examples(program: Path, broker: str) -> None:
    """Write the examples as a mini program. The component has an id, and the chat is exported."""
    docs = (ROOT / "docs/miniprogram.md").read_text()
    examples = re.findall(r"```(?:js|json|xml)\n(.*?)```", docs, re.DOTALL)
    for name, example in zip(FILES, examples, strict=True):
        text = example.replace("https://login.example", broker)
        text = text.replace("<scan-login-confirm ", '<scan-login-confirm id="login" ')
        text = text.replace(f'": "{PACKAGE}/', f'": "/miniprogram_npm/{PACKAGE}/')
        (program / name).parent.mkdir(parents=True, exist_ok=True)
        (program / name).write_text(text)
    with (program / "chat.js").open("a") as chat:
        chat.write("module.exports = { chat };\n")  # the test closes it


def test_types_fit_a_strict_mini_program(project: Project) -> None:
    shutil.copy(FOLDER / "tsconfig.json", project.root)
    shutil.copytree(FOLDER / "miniprogram", project.root / "pages")

    project.tool("typescript/bin/tsc", "--lib", "ES2022", "--jsx", "preserve")


@pytest.mark.parametrize("name", ["miniprogram", "widget"])
def test_folder_without_sources_cannot_be_installed(tmp_path: Path, name: str) -> None:
    (tmp_path / "package.json").write_text('{"private": true}')

    npm = subprocess.run(
        [need("npm"), "install", "--offline", str(ROOT / "packages" / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert npm.returncode != 0
    assert "make npm-packages" in npm.stderr


async def test_package_runs_in_the_simulator(start_broker: StartBroker, project: Project) -> None:
    broker = await start_broker(FixedDirectory("alice"), app_name="Shop", chat_rooms="open")
    built = project.root / "miniprogram_npm" / PACKAGE
    shutil.copytree(project.package(PACKAGE) / "miniprogram_dist", built)
    write_examples(project.root, broker.url)

    await run_suite("package", BROKER=broker.url, PROGRAM=str(project.root))
