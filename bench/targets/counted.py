"""One broker under callgrind."""

from __future__ import annotations

from pathlib import Path

from bench import callgrind
from bench.targets import Command, WarmUp
from bench.targets.broker import BrokerTarget


class CountedTarget(BrokerTarget):
    """folder: receives the profiles of the server that was started last."""

    warm_up = WarmUp(seconds=0, logins=100)

    def __init__(self) -> None:
        super().__init__("broker-counted", "bench.baselines.counted")
        self.folder = Path()

    def command(self, *, redis_url: str, folder: Path) -> Command:
        self.folder = folder
        command = super().command(redis_url=redis_url, folder=folder)
        environment = {**command.environment, "PYTHONHASHSEED": "0"}
        return Command(callgrind.wrap(command.arguments, folder), environment)


COUNTED = CountedTarget()
