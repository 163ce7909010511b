"""A network namespace whose way to Redis can be cut.

Packets vanish, as when a cable is pulled: nobody is told.  (A blackhole route
would refuse the sender's `connect` at once, so a neighbour that is not there
takes them instead.)  The way that people take to the namespace stays whole.

    people ── 198.18.7.1 ── 198.18.7.2 ─┐
    Redis ─── 198.18.8.1 ─✂ 198.18.8.2 ─┴─ the instance
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.environment import need

PEOPLE, INSTANCE = "198.18.7.1", "198.18.7.2"
REDIS, INSTANCE_TO_REDIS = "198.18.8.1", "198.18.8.2"
"""Addresses for trials of networks (RFC 2544), which lead nowhere else."""

NOBODY = "02:00:00:00:00:99"
"""A hardware address that no card has."""


class Partition:
    """name: of the namespace."""

    def __init__(self) -> None:
        self.name = f"scan-login-{os.getpid()}"
        self._near, self._far = f"near{os.getpid()}", f"far{os.getpid()}"

    @property
    def before(self) -> list[str]:
        """Words before a command that is to run in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def open(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._near, "type", "veth", "peer", self._far, "netns", self.name)
        for address in (PEOPLE, REDIS):
            _ip("addr", "add", f"{address}/24", "dev", self._near)
        for address in (INSTANCE, INSTANCE_TO_REDIS):
            self._inside("addr", "add", f"{address}/24", "dev", self._far)
        _ip("link", "set", self._near, "up")
        self._inside("link", "set", "lo", "up")
        self._inside("link", "set", self._far, "up")

    def cut(self) -> None:
        nobody = ("lladdr", NOBODY, "nud", "permanent")
        _ip("neigh", "replace", INSTANCE_TO_REDIS, "dev", self._near, *nobody)
        self._inside("neigh", "replace", REDIS, "dev", self._far, *nobody)

    def mend(self) -> None:
        _ip("neigh", "del", INSTANCE_TO_REDIS, "dev", self._near)
        self._inside("neigh", "del", REDIS, "dev", self._far)

    def close(self) -> None:
        """Deleting the namespace takes both ends of the cable with it."""
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def _inside(self, *words: str) -> None:
        _ip("-n", self.name, *words)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def parted() -> Iterator[Partition]:
    """A namespace for one instance; skips where this user may not make one."""
    need("ip")
    partition = Partition()
    try:
        partition.open()
    except subprocess.CalledProcessError as error:
        partition.close()
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        yield partition
    finally:
        partition.close()
