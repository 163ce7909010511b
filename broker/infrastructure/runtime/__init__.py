"""The process: HTTP server, supervisor of workers, signals, lifecycle."""
