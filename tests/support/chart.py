"""The Helm chart of `deploy/chart`, rendered without a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.deployment import DEPLOY
from tests.support.environment import miss

CHART = DEPLOY / "chart"

Object = dict[str, Any]


def render(values: Mapping[str, Any], chart_path: Path = CHART) -> list[Object]:
    """Return the objects of a release `scan-login`.  Raises HelmError for invalid values.

    chart_path: a folder or an archive.
    """
    files = _render_files(values, chart_path)
    manifests = [text for name, text in files.items() if name.endswith(".yaml")]
    return [item for text in manifests for item in yaml.safe_load_all(text) if item]


def render_notes(values: Mapping[str, Any]) -> str:
    """Return what Helm prints after an installation."""
    [notes] = [text for name, text in _render_files(values).items() if name.endswith("NOTES.txt")]
    return notes


def _render_files(values: Mapping[str, Any], chart_path: Path = CHART) -> Mapping[str, str]:
    try:
        import helm_python
    except ImportError:
        miss("helm-python-sdk is not installed: run make test")
    with helm_python.Chart.load(chart_path) as chart:
        files: Mapping[str, str] = chart.render(
            dict(values), name="scan-login", namespace="default"
        )
    return files


def of_kind(objects: list[Object], kind: str) -> Object:
    [found] = [item for item in objects if item["kind"] == kind]
    return found
