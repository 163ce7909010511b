"""The process: server, supervisor, signals, background tasks."""
