"""Scan login for a site's backend.

    Verifier, AsyncVerifier   verify the token that a login has given to the browser
    read_token                reads it from the body of a request
    SpentTokens               accepts each token once
    Webhook                   verifies what the broker sends, and parses it as typed events
    Broker                    calls the broker: sessions of phones, tunnels, files

The modules: `tokens` (rules, without I/O), `keys`, `verifier`, `spent`, `events`, `webhook`,
`broker`, `transport`, `errors`.
"""

from scan_login_client.broker import (
    Broker,
    FilePage,
    NewTunnel,
    OpenedSession,
    PushResult,
    SessionUser,
    StoredFile,
    Tunnel,
)
from scan_login_client.errors import (
    BrokerRefused,
    BrokerUnavailable,
    InvalidToken,
    InvalidWebhook,
    ScanLoginError,
    SpentToken,
    UnknownKey,
)
from scan_login_client.events import (
    AuditEntries,
    AuditEntry,
    Event,
    FileOffered,
    IdentityFind,
    LoginJudge,
    LoginReported,
    OtherEvent,
    RoomAdmit,
    TunnelClose,
    TunnelMessage,
    TunnelOpen,
    TunnelVerify,
)
from scan_login_client.spent import SpentTokens
from scan_login_client.tokens import Claims, read_token
from scan_login_client.verifier import AsyncVerifier, Verifier
from scan_login_client.webhook import Webhook

__all__ = [
    "AsyncVerifier",
    "AuditEntries",
    "AuditEntry",
    "Broker",
    "BrokerRefused",
    "BrokerUnavailable",
    "Claims",
    "Event",
    "FileOffered",
    "FilePage",
    "IdentityFind",
    "InvalidToken",
    "InvalidWebhook",
    "LoginJudge",
    "LoginReported",
    "NewTunnel",
    "OpenedSession",
    "OtherEvent",
    "PushResult",
    "RoomAdmit",
    "ScanLoginError",
    "SessionUser",
    "SpentToken",
    "SpentTokens",
    "StoredFile",
    "Tunnel",
    "TunnelClose",
    "TunnelMessage",
    "TunnelOpen",
    "TunnelVerify",
    "UnknownKey",
    "Verifier",
    "Webhook",
    "read_token",
]

__version__ = "0.1.0"
