"""The Debian package: built, checked by lintian, and installed in a chroot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import __version__
from tests.support.deployment import settings_in, trial
from tests.support.environment import free_port, miss, need
from tests.support.logins import logs_in
from tests.support.waiting import eventually
from tools.debian_package import build

# A build compresses 150 MB, and a busy machine needs minutes for that.
pytestmark = [pytest.mark.deployment, pytest.mark.timeout(3600)]

SETTINGS = "/etc/scan-login/env"
UNIT = "/lib/systemd/system/scan-login.service"
CHROOT = "/usr/sbin/chroot"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for program in ("dpkg-buildpackage", "dh"):
        need(program)
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Debian with Python."""
    if os.geteuid() != 0:
        miss("a chroot needs root")
    folder = tmp_path_factory.mktemp("chroot") / "root"
    command = [need("mmdebstrap"), "--variant=apt", "--include=python3", "bookworm", str(folder)]
    subprocess.run(command, check=True, timeout=1800)
    return folder


def run_in(root: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}
    return subprocess.run(
        [CHROOT, str(root), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def dpkg(root: Path, *words: str) -> None:
    done = run_in(root, "dpkg", *words, DEBIAN_FRONTEND="noninteractive")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installed(root: Path, package: Path) -> Iterator[Path]:
    """The chroot with the package; it is purged afterwards."""
    (root / "scan-login.deb").write_bytes(package.read_bytes())
    dpkg(root, "--install", "/scan-login.deb")
    yield root
    dpkg(root, "--purge", "scan-login")


def test_lintian_accepts_package(package: Path) -> None:
    command = [need("lintian"), "--fail-on", "error,warning", "--allow-root", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)

    assert (done.returncode, done.stdout) == (0, "")


def test_installed_command_has_version_of_broker(installed: Path) -> None:
    done = run_in(installed, "scan-login", "--version")

    assert done.stdout.strip().endswith(__version__)


def test_installed_files_have_their_modes(installed: Path) -> None:
    settings = installed / SETTINGS.removeprefix("/")

    assert settings.stat().st_mode & 0o777 == 0o640
    assert (installed / UNIT.removeprefix("/")).exists()


async def test_installed_broker_completes_login(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    shipped = settings_in((installed / SETTINGS.removeprefix("/")).read_text())
    variables = {**trial(shipped, url), "SCAN_LOGIN_PORT": str(port), "SCAN_LOGIN_ADMIN_PORT": "0"}
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [CHROOT, str(installed), "/opt/scan-login/bin/scan-login", "serve"],
            env={"PATH": "/usr/bin:/bin", **variables},
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            await eventually(lambda: "ready on" in log.read_text(), within=300)
            assert await logs_in(url)
        finally:
            process.terminate()
    assert process.returncode == 0


def test_upgrade_keeps_edited_settings(installed: Path) -> None:
    settings = installed / SETTINGS.removeprefix("/")
    settings.write_text("SCAN_LOGIN_PUBLIC_URL=https://id.shop.example\n")

    dpkg(installed, "--install", "/scan-login.deb")

    assert "id.shop.example" in settings.read_text()


def test_purge_removes_settings_and_state(installed: Path) -> None:
    state = installed / "var/lib/private/scan-login"
    state.mkdir(parents=True)

    dpkg(installed, "--purge", "scan-login")

    assert not state.exists()
    assert not (installed / SETTINGS.removeprefix("/")).exists()
    assert not (installed / "opt/scan-login").exists()
