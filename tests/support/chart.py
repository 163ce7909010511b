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
    try:
        import helm_python
    except ImportError:
        miss("helm-python-sdk is not installed: run make test")
    with helm_python.Chart.load(chart_path) as chart:
        files = chart.render(dict(values), name="scan-login", namespace="default")
    manifests = [text for name, text in files.items() if name.endswith(".yaml")]
    return [item for text in manifests for item in yaml.safe_load_all(text) if item]


def of_kind(objects: list[Object], kind: str) -> Object:
    [found] = [item for item in objects if item["kind"] == kind]
    return found
