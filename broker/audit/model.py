"""Entries of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class AuditKind(StrEnum):
    LOGIN = "login"
    SIGNIN = "signin"
    REFRESH = "refresh"
    LOGOUT = "logout"
    ADMIN = "admin"


class AuditEntry(NamedTuple):
    """An entry that is not the end of a login.

    at: Unix time in seconds.
    state: the event, such as `began`, `ended`, `reused` or `done`.
    incarnation: of `app`; empty if it has none.
    target: the id of what it concerns, such as a login, a sign-in session or an app.
    actor: of an admin act: the subject of the operator, `token`, or `cli:` and the name of the
        user who ran a command.
    id: the same for entries of which one is stored; a random one by default.
    """

    kind: AuditKind
    state: str
    at: float
    app: str = ""
    incarnation: str = ""
    subject: str | None = None
    actor: str | None = None
    target: str | None = None
    ip: str = ""
    user_agent: str = ""
    reason: str | None = None
    id: str = ""


ExportedEntry = Mapping[str, object]
"""A numbered entry as JSON, without the fields that it does not have: `seq`, `kind`, `id`, `at`,
`app`, `state` and others. `hash` is in entries of the hash chain."""


class AuditQuery(NamedTuple):
    """Entries that an operator looks for. None selects all.

    since: Unix time in seconds. before: a `seq`.
    """

    app: str | None = None
    subject: str | None = None
    state: str | None = None
    kind: str | None = None
    since: float | None = None
    before: int | None = None


class ChainCheck(NamedTuple):
    """The result of a verification of the hash chain.

    checked: entries that agree with the chain, up to the first break.
    broken_at: the `seq` of the first break; None if there is none.
    problem: of the break; empty if there is none.
    """

    checked: int
    broken_at: int | None = None
    problem: str = ""
