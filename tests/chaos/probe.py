"""Measures whether the event loop of each broker is blocked, by requests of /health/live."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol, Self

REQUEST_INTERVAL = 0.1
"""Seconds between two requests."""

REQUEST_TIMEOUT = 30.0
"""Seconds after which a request fails, longer than any allowed delay."""


class ServingInstance(Protocol):
    """An instance; `serving` is whether it should answer now."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def serving(self) -> bool: ...


class LivenessProbe:
    """Sends requests to one instance from a thread, so that a busy test does not delay them."""

    def __init__(self, instance: ServingInstance) -> None:
        self.slowest = 0.0
        self._instance = instance
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(REQUEST_INTERVAL):
            if self._instance.serving:
                self._probe_connection()

    def _probe_connection(self) -> None:
        """Send requests over one connection until it closes or the instance ends."""
        link = http.client.HTTPConnection(
            self._instance.host, self._instance.port, timeout=REQUEST_TIMEOUT
        )
        sent_at = time.monotonic()
        try:
            while self._instance.serving and not self._end.wait(REQUEST_INTERVAL):
                sent_at = time.monotonic()
                link.request("GET", "/health/live")
                link.getresponse().read()
                self.slowest = max(self.slowest, time.monotonic() - sent_at)
        except (OSError, http.client.HTTPException):
            if self._instance.serving:  # otherwise the test has ended the instance
                self.slowest = max(self.slowest, time.monotonic() - sent_at)
        finally:
            link.close()


@contextmanager
def probing(instances: Sequence[ServingInstance]) -> Iterator[list[LivenessProbe]]:
    """Probe every instance inside the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(LivenessProbe(one)) for one in instances]
