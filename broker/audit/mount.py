"""Mounts the numbering, the push and the export of the audit log."""

from __future__ import annotations

from typing import Protocol

from broker.audit import trail_api
from broker.audit.numbering import NumberingJob
from broker.audit.ports import AuditExport
from broker.audit.push import AuditPusher
from broker.audit.settings import AuditSettings
from broker.audit.trail_api import TrailAPI
from broker.infrastructure.api.authorization import OPERATOR, RECORDED, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted, Resource
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.outbound.settings import OutboundSettings
from broker.infrastructure.outbound.webhook import SiteClient
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings


class AuditContext(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def audit_export(self) -> AuditExport: ...
    @property
    def leader_leases(self) -> LeaderLeases: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: AuditContext) -> Mounted:
    numbering = NumberingJob(
        export=context.audit_export,
        leader_leases=context.leader_leases,
        instance=context.settings[ServerSettings].instance,
    )
    tasks = Mounted(tasks=[BackgroundTask("audit numbering", numbering.run)])
    return Mounted.join([tasks, _mount_push(context), _mount_api(context)])


def _mount_push(context: AuditContext) -> Mounted:
    group = context.settings[AuditSettings]
    if group.audit_url is None:
        return Mounted()
    private = context.settings[OutboundSettings].webhooks_private
    client = SiteClient(allow_private_address=private)
    pusher = AuditPusher(
        export=context.audit_export,
        client=client,
        url=group.audit_url,
        signing_secrets=[secret.get_secret_value() for secret in group.audit_secret],
        leader_leases=context.leader_leases,
        clock=context.clock,
        instance=context.settings[ServerSettings].instance,
    )
    return Mounted(
        tasks=[BackgroundTask("audit push", pusher.run)],
        resources=[Resource(client.open, client.close)],
    )


def _mount_api(context: AuditContext) -> Mounted:
    if context.operators is None:
        return Mounted()
    operator = {
        OPERATOR: context.operators.authenticate,
        RECORDED: context.operators.authenticate_recorded,
    }
    api = TrailAPI(context.audit_export)
    return Mounted(admin_routes=bind_endpoints(api, trail_api.ENDPOINTS, operator))
