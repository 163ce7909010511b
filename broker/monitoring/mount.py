"""Mounts health, version and metrics, and the monitor."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Protocol

from broker import __version__
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted, ReadinessCheck, Resource
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.settings import TransportSettings
from broker.monitoring.api import ADMIN_ENDPOINTS, PUBLIC_ENDPOINTS, HealthAPI
from broker.monitoring.instance_watch import InstanceWatch
from broker.monitoring.metrics import BUILD_INFO
from broker.monitoring.monitor import Monitor
from broker.monitoring.ports import MonitoredState


class MonitoringContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def state(self) -> MonitoredState: ...
    @property
    def secret_box(self) -> SecretBox: ...
    @property
    def token_key_ids(self) -> Callable[[], tuple[str, ...]]: ...
    @property
    def signing_key_ids(self) -> Callable[[], tuple[str, ...]]: ...
    @property
    def signing_key_age(self) -> Callable[[], float]: ...
    @property
    def instances(self) -> InstanceWatch: ...
    @property
    def unready_reason(self) -> ReadinessCheck: ...


def mount(context: MonitoringContext) -> Mounted:
    monitor = Monitor(
        state=context.state,
        token_key_ids=context.token_key_ids,
        signing_key_ids=context.signing_key_ids,
        secret_box=context.secret_box,
        instance=context.settings[ServerSettings].instance,
        observe=context.instances.observe,
    )
    BUILD_INFO.labels(
        __version__, platform.python_version(), context.settings[TransportSettings].engine
    ).set(1)
    health = HealthAPI(
        unready_reason=context.unready_reason,
        state_problem=context.state.unavailable_reason,
        signing_key_age=context.signing_key_age,
    )
    return Mounted(
        routes=bind_endpoints(health, PUBLIC_ENDPOINTS),
        admin_routes=bind_endpoints(health, ADMIN_ENDPOINTS),
        tasks=[BackgroundTask("monitor", monitor.run)],
        readiness=[monitor.unready_reason],
        resources=[Resource(monitor.open, monitor.close)],
    )
