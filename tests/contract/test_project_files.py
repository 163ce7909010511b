"""The files for contributors and for CI agree with each other and with the package."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker import __version__
from tests.support.environment import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = [
    name.rpartition(" ")[2]
    for name in PROJECT["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
]
CONSTRAINTS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)
MAKEFILE = (ROOT / "Makefile").read_text()
HELP = dict(re.findall(r"^([a-z-]+):.*## (.+)$", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
GUIDES = [ROOT / name for name in ("CONTRIBUTING.md", "RELEASING.md", "README.md")]


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


def targets(text: str) -> set[str]:
    """The targets of the commands `make …` in code spans, code blocks and steps."""
    code = re.findall(r"`([^`]+)`|^(make .+)$", text, re.MULTILINE)
    commands = [span or line for span, line in code]
    return {word for command in commands for word in re.findall(r"\bmake ([a-z-]+)", command)}


def test_pre_commit_uses_versions_of_constraints() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = {one["repo"].rpartition("/")[2]: one["rev"] for one in repositories if "rev" in one}

    assert revisions == {
        "ruff-pre-commit": f"v{CONSTRAINTS['ruff']}",
        "codespell": f"v{CONSTRAINTS['codespell']}",
    }


def test_wheel_contains_type_marker() -> None:
    assert (ROOT / "broker/py.typed").exists()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["broker"]


def test_packages_have_the_version_of_the_broker() -> None:
    manifests = (ROOT / "packages").glob("*/package.json")
    versions = {path: json.loads(path.read_text())["version"] for path in manifests}
    for path in (ROOT / "packages").glob("*/src/*/__init__.py"):
        [versions[path]] = re.findall(r'^__version__ = "(.+)"$', path.read_text(), re.MULTILINE)

    assert versions
    assert {path for path, version in versions.items() if version != __version__} == set()


def test_oldest_python_is_the_required_one() -> None:
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_supported_pythons(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    matrices = [job["strategy"]["matrix"]["python"] for job in jobs if "strategy" in job]

    assert matrices or workflow.stem == "nightly"
    assert all(matrix == PYTHONS for matrix in matrices)


def test_compatibility_page_names_supported_pythons() -> None:
    [row] = re.findall(
        r"^\| Python \|.*$", (ROOT / "docs/compatibility.md").read_text(), re.MULTILINE
    )

    assert row.rpartition("| ")[2] == f"{', '.join(PYTHONS)} |"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_pins_actions_by_commit(workflow: Path) -> None:
    actions = re.findall(r"uses: (.+)$", workflow.read_text(), re.MULTILINE)

    assert actions
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name) for name in actions)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_existing_targets(workflow: Path) -> None:
    commands = [step["run"] for step in steps(workflow) if "run" in step]

    assert set().union(*map(targets, commands)) <= set(HELP)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_guide_names_existing_targets(guide: Path) -> None:
    named = targets(guide.read_text())

    assert named
    assert named <= set(HELP)


def test_help_lists_every_target() -> None:
    declared = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[0]

    assert set(declared.replace("\\\n", " ").split()) == {*HELP, "system"}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_required_fields(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    if form.stem == "config":
        assert content["blank_issues_enabled"] is False
        return

    required = [field for field in content["body"] if field.get("validations", {}).get("required")]
    assert {"name", "description", "body"} <= set(content)
    assert required
