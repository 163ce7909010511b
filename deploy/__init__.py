"""Configuration of nginx, and a cluster of local processes that uses it. Not in the wheel."""
