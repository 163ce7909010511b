"""The broker for counts of instructions: one image for all codes, and no periodic work.

`python -m bench.baselines.counted serve`. What periodic work adds to a login depends on how long
the login takes, which is fifty times as long under valgrind.
"""

from __future__ import annotations

from importlib import import_module

from bench.baselines.ready import return_picture
from broker.cli.main import main
from broker.providers.pretend import PretendProvider

NEVER = 86_400.0

PERIODIC = (
    ("broker.records.audit_log", "FLUSH_INTERVAL"),
    ("broker.records.app_cache", "REFRESH_INTERVAL"),
    ("broker.login.lobby", "RECONCILE_INTERVAL"),
    ("broker.monitoring.monitor", "INTERVAL"),
    ("broker.infrastructure.retries", "POLL_INTERVAL"),
    ("broker.pool.scheduler", "POLL_INTERVAL"),
    ("broker.tunnels.jobs", "INTERVAL"),
    ("broker.tunnels.hub", "CHANGED_INTERVAL"),
    ("broker.chat.changes", "SWEEP_INTERVAL"),
    ("broker.audit.numbering", "INTERVAL"),
)
"""Constants with the seconds between two runs of a task. Redis is still pinged each second."""

if __name__ == "__main__":
    PretendProvider.draw = return_picture  # type: ignore[method-assign]
    for module, name in PERIODIC:
        setattr(import_module(module), name, NEVER)
    main()
