"""Logging, metrics and outage logs."""
