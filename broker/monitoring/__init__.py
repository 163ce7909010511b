"""Health, readiness, version and metrics."""
