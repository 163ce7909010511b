"""Runs a state machine of Hypothesis that takes arguments."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_machine(make: Callable[[], RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Run `examples` machines, each of at most `steps` steps."""
    run_state_machine_as_test(
        make,  # type: ignore[arg-type]  # any function may make the machine
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )
