"""Errors and codes of Wafer's calls. Most have the HTTP status 200."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from broker.errors import BrokerError, RateLimited, Unavailable
from broker.identity.errors import (
    InvalidProof,
    NoProviderAccount,
    ProviderAnswerMalformed,
    ProviderBlockedUser,
    ProviderUnavailable,
    UserDataDecryptionFailed,
)
from broker.sessions.errors import InvalidSession


class UnknownBusinessServer(BrokerError):
    error, status = "access_denied", 403
    description = (
        "only business servers in SCAN_LOGIN_WAFER_NETWORKS may call this, directly or through a "
        "proxy in SCAN_LOGIN_TRUSTED_PROXIES"
    )


class ReturnCode(IntEnum):
    """The `returnCode` of a session call, as Wafer's session server numbers them."""

    SUCCESS = 0
    NO_INTERFACE_NAME = 1002
    INVALID_PARA = 1003
    PROVIDER_UNAVAILABLE = 1005
    STATE_UNAVAILABLE = 1006
    PROVIDER_ANSWER_MALFORMED = 1007
    NOT_JSON = 1009
    UNKNOWN_INTERFACE = 1010
    NO_PARA = 1011
    NO_ACCOUNT = 1012
    INVALID_CODE = 40029
    AUTH_FAIL = 60012
    DECRYPTION_FAILED = 60021


class SessionCallFailed(Exception):
    """A session call is answered with `code`."""

    def __init__(self, code: ReturnCode) -> None:
        super().__init__(code.name)
        self.code = code


RETURN_CODES: Mapping[type[BrokerError], ReturnCode] = {
    InvalidSession: ReturnCode.AUTH_FAIL,
    InvalidProof: ReturnCode.INVALID_CODE,
    UserDataDecryptionFailed: ReturnCode.DECRYPTION_FAILED,
    NoProviderAccount: ReturnCode.NO_ACCOUNT,
    ProviderAnswerMalformed: ReturnCode.PROVIDER_ANSWER_MALFORMED,
    ProviderUnavailable: ReturnCode.PROVIDER_UNAVAILABLE,
    ProviderBlockedUser: ReturnCode.PROVIDER_UNAVAILABLE,
    RateLimited: ReturnCode.PROVIDER_UNAVAILABLE,
    Unavailable: ReturnCode.STATE_UNAVAILABLE,
}
"""The code of each error. An error has the code of its first class in this order."""


def return_code(error: BrokerError) -> ReturnCode:
    return next(
        (code for kind, code in RETURN_CODES.items() if isinstance(error, kind)),
        ReturnCode.STATE_UNAVAILABLE,
    )


class TunnelCode(IntEnum):
    """The `code` of a tunnel call. The SDKs use the first four for the same faults."""

    OK = 0
    NOT_JSON = 9001
    NOT_SIGNED = 9002
    WRONG_SIGNATURE = 9003
    INVALID_DATA = 9004
    RECEIVER_REFUSED = 9005
    LIMIT_REACHED = 9006
    UNAVAILABLE = 9007


class TunnelCallFailed(Exception):
    """A tunnel call is answered with `code` and a message.

    message: for the developer of the business server.
    """

    def __init__(self, code: TunnelCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class WrongSignature(BrokerError):
    """Counts as a failed attempt. It is answered as `TunnelCode.WRONG_SIGNATURE`.

    app: the id in the path if there is such an app, for the log.
    """

    error, status = "invalid_client", 401
    counts_as_guess = True
    description = "wrong tcId or signature"

    def __init__(self, app: str | None) -> None:
        super().__init__()
        self.app = app
