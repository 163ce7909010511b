"""Builds the Debian package from a copy of the source.

    python -m tools.debian_package [FOLDER]

The package is for the processor, the Debian release and the Python of this machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory

from broker import __version__

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE")
SOURCE_FOLDERS = ("broker", "web_demo", "mp_stub", "deploy")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "node_modules")

MAINTAINER = "Scan-login broker <maintainers@scan-login.example>"


def stage(folder: Path, version: str) -> Path:
    """Copy the source and `deploy/debian` into `folder`, and return the path of the copy."""
    source = folder / "scan-login"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in SOURCE_FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    debian = Path(shutil.move(source / "deploy/debian", source / "debian"))
    shutil.copy(ROOT / "deploy/scan-login.service", debian)
    # dh_install cannot rename.
    (debian / "settings").mkdir()
    shutil.copy(ROOT / "deploy/scan-login.env", debian / "settings/env")
    (debian / "changelog").write_text(
        f"scan-login ({version}) stable; urgency=medium\n\n"
        f"  * Version {version}. CHANGELOG.md lists the changes.\n\n"
        f" -- {MAINTAINER}  {formatdate()}\n"
    )
    return source


def build(output: Path, version: str = __version__) -> Path:
    """Build the package into the folder `output`, and return its path."""
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        source = stage(Path(name), version)
        command = ["dpkg-buildpackage", "--build=binary", "--no-sign"]
        subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        [package] = Path(name).glob("*.deb")
        return Path(shutil.copy(package, output))


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
