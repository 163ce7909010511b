"""Builds the authentication of operators."""

from __future__ import annotations

from functools import partial

from broker.admin.operators import OperatorTokens
from broker.admin.settings import AdminSettings
from broker.apps.model import ADMIN_APP
from broker.audit.model import AuditEntry, AuditKind
from broker.audit.ports import AuditTrail
from broker.backends import Backends
from broker.infrastructure.api.authorization import OperatorAct, OperatorAuthenticator
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.clock import Clock
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings
from broker.services import Services
from broker.tokens.issuer import VerifiedAccessToken


def build_operators(
    settings: Settings,
    backends: Backends,
    services: Services,
    failures: RateLimiter,
    addresses: ClientAddresses,
) -> OperatorAuthenticator | None:
    """Return the authenticator, or None without an admin token."""
    token = settings[ServerSettings].admin_token
    if token is None:
        return None

    async def is_active(access_token: VerifiedAccessToken) -> bool:
        app = backends.apps.get(ADMIN_APP)
        families = services.oidc_services.families
        return app is not None and await families.is_active(access_token, app)

    tokens = OperatorTokens(
        issuer=services.token_issuer,
        subjects=settings[AdminSettings].admin_subjects,
        is_active=is_active,
    )
    return OperatorAuthenticator(
        token=token.get_secret_value(),
        find_operator=tokens.find,
        record=partial(_record, backends.records.audit_trail, backends.state.clock),
        failures=failures,
        addresses=addresses,
    )


def _record(trail: AuditTrail, clock: Clock, act: OperatorAct) -> None:
    """Write a change by an operator to the audit log."""
    trail.add(
        AuditEntry(
            AuditKind.ADMIN,
            "done",
            clock(),
            actor=act.actor,
            target=act.target or None,
            ip=act.ip,
            reason=act.act,
        )
    )
