"""What the operator counts.  Never a login, scene, session or address as a label."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest

_LOGINS = Counter("scanlogin_logins", "Logins that have come to a state", ["app", "state"])
REFUSALS = Counter("scanlogin_refusals", "Failures that were answered", ["error"])
FLOODS = Counter(
    "scanlogin_sockets_refused", "Socket.IO sessions closed or refused by a rate limit", ["limit"]
)
DEAF = Counter("scanlogin_bus_deaf", "Times that this instance heard nothing and listened afresh")
REDELIVERIES = Counter("scanlogin_token_redeliveries", "Tokens issued again")
FOUND = Counter("scanlogin_news_found", "Changes that the state told and no notice had")
WECHAT = Counter("scanlogin_wechat_requests", "Requests to WeChat", ["api", "errcode"])
DIRECTORY = Counter("scanlogin_directory_answers", "Answers of the site's webhook", ["outcome"])
READY = Gauge("scanlogin_ready", "1 while this instance wants browsers, else 0")
WAITING = Gauge("scanlogin_waiting_browsers", "Browsers that wait at this instance for a phone")
TRAIL_DROPPED = Counter("scanlogin_trail_dropped", "Ended logins that no trail could be kept of")
RECORDS_DOWN = Gauge("scanlogin_records_down", "1 while the database cannot be reached, else 0")
RECORDS_FILE_LOST = Gauge(
    "scanlogin_records_file_lost", "1 while the SQLite file is deleted or replaced, else 0"
)
POOL_CODES = Gauge("scanlogin_pool_codes", "Codes that are ready, by state", ["app", "state"])
POOL_LOW = Gauge("scanlogin_pool_low", "1 while a pool is about to run dry, else 0", ["app"])
POOL_EMPTY = Counter("scanlogin_pool_empty", "Logins that found no free code", ["app"])
POOL_DRAWN = Counter("scanlogin_pool_drawn", "Codes drawn for a pool", ["app"])
LOG_LINES_DROPPED = Counter("scanlogin_log_lines_dropped", "Log lines that were not written")
TASK_FAILURES = Counter("scanlogin_task_failures", "Failures of background tasks", ["task"])
STATE_REFUSES = Gauge("scanlogin_state_refuses_writes", "1 while Redis refuses writes, else 0")
STATE_EVICTS = Gauge("scanlogin_state_evicts", "1 while Redis may evict keys, else 0")
CLOCK_OFFSET = Gauge("scanlogin_clock_offset_seconds", "Redis' clock minus this host's")
KEYS_DIFFER = Gauge(
    "scanlogin_keys_differ", "1 while another instance has other keys, else 0", ["keys"]
)

CONTENT_TYPE = CONTENT_TYPE_LATEST


@lru_cache(maxsize=1024)
def logins(app: str, state: str) -> Counter:
    """Counts logins of one app that have come to one state."""
    return _LOGINS.labels(app, state)


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    return generate_latest()
