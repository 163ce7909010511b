"""Processes: commands, workers, servers, deployments."""
