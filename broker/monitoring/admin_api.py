"""The running instances, over HTTP at the admin port."""

from __future__ import annotations

from collections.abc import Callable
from typing import NotRequired

from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.schema import Count, ResponseModel
from broker.infrastructure.clock import Clock
from broker.monitoring.instance_watch import InstanceWatch
from broker.monitoring.ports import Profile

COUNTED = ("waiting", "tunnels", "chat")
"""Names of `InstanceReport.counts` in the answer."""


class InstanceView(ResponseModel):
    """An instance.  Times are Unix times in seconds.

    seen_at: when it last reported.  reason: why it should get no browsers.
    waiting, tunnels, chat: open sockets of each kind.
    """

    instance: str
    version: str
    started_at: float
    seen_at: float
    ready: bool
    reason: NotRequired[str]
    roles: list[str]
    waiting: Count
    tunnels: Count
    chat: Count


class InstancesResponse(ResponseModel):
    """answered_by: the instance that answers.  instances: by their names."""

    answered_by: str
    instances: list[InstanceView]


class InstancesAPI:
    """profile: returns that of this instance."""

    def __init__(
        self,
        *,
        profile: Callable[[], Profile],
        instances: InstanceWatch,
        instance: str,
        clock: Clock,
    ) -> None:
        self._profile = profile
        self._instances = instances
        self._instance = instance
        self._clock = clock

    async def list(self) -> InstancesResponse:
        now = self._clock()
        others = [
            _view(name, seen.profile, now - seen.age)
            for name, seen in self._instances.others.items()
        ]
        own = _view(self._instance, self._profile(), now)
        views = sorted([own, *others], key=lambda view: view["instance"])
        return {"answered_by": self._instance, "instances": views}


def _view(name: str, profile: Profile, seen_at: float) -> InstanceView:
    facts = profile.facts
    waiting, tunnels, chat = (facts.counts.get(counted, 0) for counted in COUNTED)
    view: InstanceView = {
        "instance": name,
        "version": facts.version,
        "started_at": profile.started_at,
        "seen_at": seen_at,
        "ready": not facts.unready,
        "roles": list(facts.roles),
        "waiting": waiting,
        "tunnels": tunnels,
        "chat": chat,
    }
    return {**view, "reason": facts.unready} if facts.unready else view


ENDPOINTS = [
    Endpoint(
        "GET",
        "/instances",
        InstancesAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listInstances",
        summary="List the instances that share the state",
        response=InstancesResponse,
    ),
]
