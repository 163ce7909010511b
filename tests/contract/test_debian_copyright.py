"""The copyright file of the Debian package covers everything that the package contains."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, distribution
from pathlib import PurePath

from packaging.requirements import Requirement

from tests.support.environment import ROOT
from tools.debian_package import SOURCE_FOLDERS

PARAGRAPHS = (ROOT / "deploy/debian/copyright").read_text().split("\n\n")
BUNDLE_NOTICES = ROOT / "broker/admin/static/vendor/swagger-ui-bundle.js.LICENSE.txt"


def field(name: str, paragraph: str) -> str:
    found = re.search(rf"^{name}:((?:.*\n?)(?: .*\n?)*)", paragraph, re.MULTILINE)
    return found[1].strip() if found else ""


STANZAS = {
    pattern: (field("License", one), field("Copyright", one))
    for one in PARAGRAPHS
    for pattern in field("Files", one).split()
    if pattern != "*"
}
"""Licence and copyright by pattern, in the order of the file: the last match is valid."""


def vendored() -> Iterator[str]:
    for folder in SOURCE_FOLDERS:
        for path in (ROOT / folder).rglob("vendor/*"):
            if "node_modules" not in path.parts:
                yield str(path.relative_to(ROOT))


def packages(waiting: list[Requirement]) -> Iterator[Distribution]:
    """Yield the installed packages that the requirements install."""
    seen = set[str]()
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        yield (package := distribution(one.name))
        for needed in map(Requirement, package.requires or ()):
            extras = [*one.extras, ""]
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)


def wheel_files() -> Iterator[str]:
    """One path for each file and folder that a Python package has in site-packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package in packages([Requirement(text) for text in project["dependencies"]]):
        tops = {PurePath(path).parts[0] for path in package.files or ()}
        for top in tops - {"..", "__pycache__"}:
            yield f"opt/scan-login/lib/python3/site-packages/{top}"


def patterns_of(path: str) -> list[str]:
    return [pattern for pattern in STANZAS if fnmatchcase(path, pattern)]


def test_copyright_names_every_vendored_file() -> None:
    paths = set(vendored())

    assert paths
    assert {path for path in paths if not patterns_of(path)} == set()


def test_copyright_names_every_python_package() -> None:
    assert {path for path in wheel_files() if not patterns_of(path)} == set()


def test_every_pattern_of_copyright_matches_file() -> None:
    used = {one for path in (*vendored(), *wheel_files()) for one in patterns_of(path)}

    assert set(STANZAS) - used == set()


def test_every_licence_of_copyright_has_text() -> None:
    names = " ".join(licence for licence, _ in STANZAS.values())
    texts = {
        field("License", one).partition("\n")[0]
        for one in PARAGRAPHS
        if one.startswith("License:") and "\n" in one.strip()
    }

    assert set(re.findall(r"[A-Z][\w.-]+", names)) == texts


def test_copyright_names_holders_in_bundle() -> None:
    holders = re.findall(r"\(c\) (?:[\d-]+(?:present)?,? )?(\w+)", BUNDLE_NOTICES.read_text())
    [*_, last] = patterns_of("broker/admin/static/vendor/swagger-ui-bundle.js")
    _, named = STANZAS[last]

    assert "Cure53" in holders
    assert {name for name in holders if name not in named} == set()
