"""Builds the client packages, the chart and the Debian package, and lists what is in dist/.

    python -m tools.packages
    python -m tools.packages npm     # only the packages for npm

A client package is built from a copy of its folder. Files that the broker or the mini program has
too have one source, and are copied into that copy. The Debian package is built if the machine has
Debian's build tools.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from broker import __version__
from tools import debian_package

ROOT = Path(__file__).parents[1]
PACKAGES = ROOT / "packages"
DIST = ROOT / "dist"
CHART = ROOT / "deploy/chart"

SOURCES: Mapping[str, Mapping[str, str]] = {
    "miniprogram": {"miniprogram_dist": "mp_stub/miniprogram/scan-login"},
    "widget": {"scan-login.js": "broker/widget/static/scan-login.js"},
}
"""By package: the files and folders in it that have their source elsewhere."""

LEFT_OUT = shutil.ignore_patterns("node_modules", "dist", "*.egg-info", ".*_cache", "__pycache__")


def stage(name: str, folder: Path) -> Path:
    """Copy the complete package `name` into `folder`, and return its path there."""
    package = folder / name
    shutil.copytree(PACKAGES / name, package, ignore=LEFT_OUT)
    shutil.copy(ROOT / "LICENSE", package)
    for target, source in SOURCES.get(name, {}).items():
        path = ROOT / source
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, package / target)
    return package


def build(name: str, output: Path) -> None:
    """Build a package for npm or for Python into the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        package = stage(name, Path(folder))
        if (package / "package.json").exists():
            command = ["npm", "pack", "--silent", "--pack-destination", str(output)]
        else:
            # The build backends are in the test group.
            command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output)]
        subprocess.run(command, cwd=package, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def build_chart(output: Path) -> Path:
    """Write the archive that `helm package deploy/chart` writes, and return its path."""
    output.mkdir(parents=True, exist_ok=True)
    archive = output / f"scan-login-chart-{__version__}.tgz"
    with tarfile.open(archive, "w:gz", dereference=True) as tar:
        tar.add(CHART, "scan-login")
    return archive


def names() -> list[str]:
    """Return the names of the folders in packages/."""
    return sorted(path.name for path in PACKAGES.iterdir() if path.is_dir())


def listing(output: Path) -> Iterator[str]:
    """Yield a line with name and size for each file in `output`."""
    for path in sorted(output.iterdir()):
        yield f"{path.stat().st_size / 1024:10.1f} KB  {path.relative_to(output.parent)}"


def npm_names() -> list[str]:
    """Return the names of the packages for npm."""
    return [name for name in names() if (PACKAGES / name / "package.json").exists()]


def build_all(output: Path) -> None:
    """Build the client packages, the chart and the Debian package."""
    for name in names():
        build(name, output)
    build_chart(output)
    if shutil.which("dh"):
        debian_package.build(output)


def main(arguments: Sequence[str]) -> None:
    if list(arguments) == ["npm"]:
        for name in npm_names():
            build(name, DIST)
    else:
        build_all(DIST)
    print("\n".join(listing(DIST)))


if __name__ == "__main__":
    main(sys.argv[1:])
