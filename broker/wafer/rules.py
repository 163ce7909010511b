"""Paths of Wafer's calls."""

from __future__ import annotations

APP_PREFIX = "/wafer/{app:[A-Za-z0-9._-]+}"
"""The prefix of the calls of an app. Those of the app `default` have none."""
