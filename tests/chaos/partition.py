"""A network namespace whose route to Redis can be cut.

Packets are lost without an error, as with an unplugged cable. A blackhole route would refuse
the sender's `connect` at once, so packets go to a missing hardware address instead. The route
of the users to the namespace is not affected.

    users ─── 198.18.7.1 ── 198.18.7.2 ─┐
    Redis ─── 198.18.8.1 ─✂ 198.18.8.2 ─┴─ the instance
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.environment import miss, need

PEOPLE, INSTANCE = "198.18.7.1", "198.18.7.2"
REDIS, INSTANCE_TO_REDIS = "198.18.8.1", "198.18.8.2"
"""Addresses for network tests (RFC 2544), which are not routed."""

UNUSED_ADDRESS = "02:00:00:00:00:99"
"""An unused hardware address."""


class Partition:
    """A network namespace.

    name: the name of the namespace.
    """

    def __init__(self) -> None:
        self.name = f"scan-login-{os.getpid()}"
        self._near, self._far = f"near{os.getpid()}", f"far{os.getpid()}"

    @property
    def before(self) -> list[str]:
        """The prefix of a command that runs in the namespace."""
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
        missing_neighbour = ("lladdr", UNUSED_ADDRESS, "nud", "permanent")
        _ip("neigh", "replace", INSTANCE_TO_REDIS, "dev", self._near, *missing_neighbour)
        self._inside("neigh", "replace", REDIS, "dev", self._far, *missing_neighbour)

    def restore(self) -> None:
        _ip("neigh", "del", INSTANCE_TO_REDIS, "dev", self._near)
        self._inside("neigh", "del", REDIS, "dev", self._far)

    def close(self) -> None:
        """Delete the namespace, and with it both virtual interfaces."""
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def _inside(self, *words: str) -> None:
        _ip("-n", self.name, *words)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def partitioned() -> Iterator[Partition]:
    """A namespace for one instance; skips the test if it cannot be created, or fails it in CI."""
    need("ip")
    partition = Partition()
    try:
        partition.open()
    except subprocess.CalledProcessError as error:
        partition.close()
        miss(f"cannot create a network namespace: {error.stderr.decode().strip()}")
    try:
        yield partition
    finally:
        partition.close()
