"""Readiness by the health of Redis."""

from __future__ import annotations

import pytest

from broker.infrastructure.redis.health import SHORTAGES_MIN, Replicas


def test_slow_moment_of_a_replica_keeps_readiness() -> None:
    replicas = Replicas(1)
    assert replicas.record(1)
    for _ in range(SHORTAGES_MIN - 1):
        assert not replicas.record(0)

    assert replicas.unready_reason() is None


@pytest.mark.parametrize("count", [1, 2])
def test_lasting_shortage_of_replicas_ends_with_enough(count: int) -> None:
    replicas = Replicas(1)
    assert replicas.record(1)
    for _ in range(SHORTAGES_MIN):
        replicas.record(0)
    assert replicas.unready_reason() == "the state lacks replicas: 0 of 1 have the last write"

    assert replicas.record(count)

    assert replicas.unready_reason() is None


def test_instance_that_starts_without_replicas_is_not_ready() -> None:
    replicas = Replicas(1)

    assert not replicas.record(0)

    assert replicas.unready_reason() == "the state lacks replicas: 0 of 1 have the last write"
