"""Whether each broker's event loop goes on turning: /health/live, asked all the time."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol, Self

EVERY = 0.1
"""Seconds between two questions."""

PATIENCE = 30.0
"""Seconds after which a question is given up; long past what is allowed."""


class Serves(Protocol):
    """serving: whether it is meant to answer now."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def serving(self) -> bool: ...


class Pulse:
    """Asks one instance, in a thread, so that a busy test does not look like a stuck broker."""

    def __init__(self, instance: Serves) -> None:
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
        while not self._end.wait(EVERY):
            if self._instance.serving:
                self._ask_on()

    def _ask_on(self) -> None:
        """Ask over one connection for as long as it and the instance last."""
        link = http.client.HTTPConnection(
            self._instance.host, self._instance.port, timeout=PATIENCE
        )
        asked = time.monotonic()
        try:
            while self._instance.serving and not self._end.wait(EVERY):
                asked = time.monotonic()
                link.request("GET", "/health/live")
                link.getresponse().read()
                self.slowest = max(self.slowest, time.monotonic() - asked)
        except (OSError, http.client.HTTPException):
            if self._instance.serving:  # else it was ended, which is no fault of its own
                self.slowest = max(self.slowest, time.monotonic() - asked)
        finally:
            link.close()


@contextmanager
def pulses(instances: Sequence[Serves]) -> Iterator[list[Pulse]]:
    """Ask every instance while inside the ``with`` block."""
    with ExitStack() as stack:
        yield [stack.enter_context(Pulse(one)) for one in instances]
