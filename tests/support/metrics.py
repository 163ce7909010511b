"""The broker's metrics, and the places that name them."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from prometheus_client import REGISTRY

import broker
from tests.support.environment import ROOT

RULES = ROOT / "deploy" / "alerts.yml"

DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
"""Suffixes of the series of a metric, by type."""


@cache
def documented_names() -> frozenset[str]:
    """Return the names in the table of docs/alerts.md."""
    text = (ROOT / "docs" / "alerts.md").read_text()
    return frozenset(re.findall(r"^\| `(scanlogin_\w+)", text, re.MULTILINE))


@cache
def series() -> dict[str, str]:
    """Return the name of each series of the broker, and the name by which docs list it."""
    import_all()
    found = {}
    for family in REGISTRY.collect():
        if family.name.startswith("scanlogin_"):
            listed = f"{family.name}_total" if family.type == "counter" else family.name
            found.update({family.name + suffix: listed for suffix in SUFFIXES[str(family.type)]})
    return found


def import_all() -> None:
    """Import every module of the broker, so that its metrics are registered."""
    for module in pkgutil.walk_packages(broker.__path__, "broker."):
        if not module.name.startswith("broker.records.migrations.") and module.name != "__main__":
            importlib.import_module(module.name)


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bscanlogin_\w+", expression))


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[str]:
    for file in DASHBOARDS:
        for panel in panels(json.loads(file.read_text())):
            yield from (target["expr"] for target in panel["targets"])
