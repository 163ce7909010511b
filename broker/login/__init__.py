"""One login from begin to token."""
