"""Mounts health, version and metrics, and the monitor."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Protocol

from broker import __version__
from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted, ReadinessCheck, Resource
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.infrastructure.runtime.memory import memory_trim
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.infrastructure.transport.settings import TransportSettings
from broker.monitoring import admin_api
from broker.monitoring.admin_api import InstancesAPI
from broker.monitoring.api import ADMIN_ENDPOINTS, PUBLIC_ENDPOINTS, HealthAPI
from broker.monitoring.instance_watch import InstanceWatch
from broker.monitoring.metrics import BUILD_INFO
from broker.monitoring.monitor import Monitor
from broker.monitoring.ports import InstanceFacts, MonitoredState


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
    @property
    def report(self) -> InstanceReport: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: MonitoringContext) -> Mounted:
    monitor = _monitor(context)
    BUILD_INFO.labels(
        __version__, platform.python_version(), context.settings[TransportSettings].engine
    ).set(1)
    health = HealthAPI(
        unready_reason=context.unready_reason,
        state_problem=context.state.unavailable_reason,
        signing_key_age=context.signing_key_age,
    )
    mounted = Mounted(
        routes=bind_endpoints(health, PUBLIC_ENDPOINTS),
        admin_routes=bind_endpoints(health, ADMIN_ENDPOINTS),
        tasks=[BackgroundTask("monitor", monitor.run), *_memory_tasks()],
        readiness=[monitor.unready_reason],
        resources=[Resource(monitor.open, monitor.close)],
    )
    return Mounted.join([mounted, _mount_instances(context, monitor)])


def _memory_tasks() -> list[BackgroundTask]:
    trim = memory_trim()
    return [BackgroundTask("memory trim", trim.run)] if trim else []


def _monitor(context: MonitoringContext) -> Monitor:
    server = context.settings[ServerSettings]

    def facts() -> InstanceFacts:
        return InstanceFacts(
            version=__version__,
            roles=tuple(server.roles),
            unready=context.unready_reason() or "",
            counts=context.report.counts(),
            notes=context.report.notes(),
        )

    return Monitor(
        state=context.state,
        token_key_ids=context.token_key_ids,
        signing_key_ids=context.signing_key_ids,
        secret_box=context.secret_box,
        instance=server.instance,
        observe=context.instances.observe,
        facts=facts,
    )


def _mount_instances(context: MonitoringContext, monitor: Monitor) -> Mounted:
    if context.operators is None:
        return Mounted()
    api = InstancesAPI(
        profile=monitor.profile,
        instances=context.instances,
        instance=context.settings[ServerSettings].instance,
        clock=context.state.clock,
    )
    operator = {OPERATOR: context.operators.authenticate}
    return Mounted(admin_routes=bind_endpoints(api, admin_api.ENDPOINTS, operator))
