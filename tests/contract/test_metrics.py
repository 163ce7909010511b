"""Metrics, their documentation, the alert rules and the dashboards have the same names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import ROOT
from tests.support.markdown import Page
from tests.support.metrics import (
    DASHBOARDS,
    dashboard_expressions,
    documented_names,
    names_in,
    panels,
    rules,
    series,
)

RUNBOOK = "https://scan-login.example/docs/alerts/#"

GRID_WIDTH = 24
"""Columns of a dashboard."""

PAGE = (ROOT / "docs" / "alerts.md").read_text()


def sections() -> dict[str, str]:
    """Return the sections of the alerts by name."""
    parts = re.split(r"^## (?=ScanLogin)", PAGE.partition("## Other log events")[0], flags=re.M)
    return {name: text for name, _, text in (part.partition("\n") for part in parts[1:])}


def test_documented_metrics_are_those_that_exist() -> None:
    assert documented_names() == set(series().values())


def test_expressions_use_existing_metrics_only() -> None:
    used = set().union(*map(names_in, [*dashboard_expressions(), *(r["expr"] for r in rules())]))

    assert used - set(series()) == set()


def test_every_metric_is_in_a_dashboard() -> None:
    shown = {series()[name] for one in dashboard_expressions() for name in names_in(one)}

    assert set(series().values()) - shown == set()


def test_each_alert_has_one_section() -> None:
    assert sorted(rule["alert"] for rule in rules()) == sorted(sections())


@pytest.mark.parametrize("name", sections())
def test_section_has_meaning_check_and_action(name: str) -> None:
    labels = re.findall(r"^\*\*(\w+)\.?\*\*", sections()[name], re.MULTILINE)

    assert labels == ["Meaning", "Check", "Action"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_rule_has_severity_summary_and_runbook(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert notes["summary"]
    assert notes["runbook_url"].removeprefix(RUNBOOK) in Page(PAGE).anchors()
    assert notes["runbook_url"] == RUNBOOK + rule["alert"].lower()


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: str(file.name))
def test_dashboard_has_no_absolute_ids(file: Path) -> None:
    board = json.loads(file.read_text())
    source, *_ = board["templating"]["list"]

    assert (source["name"], source["type"]) == ("datasource", "datasource")
    assert {"id", "uid"} & set(board) == set()
    assert set(re.findall(r'"uid": "([^"]*)"', file.read_text())) == {"${datasource}"}
    assert board["schemaVersion"] == 39


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: str(file.name))
def test_panels_are_complete_and_do_not_overlap(file: Path) -> None:
    board = json.loads(file.read_text())
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not covered & cells, panel["title"]
        assert at["x"] + at["w"] <= GRID_WIDTH, panel["title"]
        cells |= covered

    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels(board):
        assert panel["title"]
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
