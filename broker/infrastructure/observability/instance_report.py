"""A report about this instance for operators, in addition to metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class InstanceReport:
    """Numbers and short texts by name. Features add them; the monitor publishes them.

    A text holds no secret: the state stores it for a few seconds.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Callable[[], int]] = {}
        self._notes: dict[str, str] = {}

    def count(self, name: str, read: Callable[[], int]) -> None:
        """Report the result of `read`, such as the number of waiting browsers."""
        self._counts[name] = read

    def note(self, name: str, text: str) -> None:
        """Report a text instead of the former one; "" reports none."""
        if text:
            self._notes[name] = text
        else:
            self._notes.pop(name, None)

    def counts(self) -> Mapping[str, int]:
        return {name: read() for name, read in self._counts.items()}

    def notes(self) -> Mapping[str, str]:
        return dict(self._notes)
