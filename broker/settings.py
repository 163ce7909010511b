"""All settings: the groups, and what involves two of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic.fields import FieldInfo

from broker.admin.settings import AdminSettings
from broker.apps.settings import AppSettings
from broker.audit.settings import AuditSettings
from broker.blobs.settings import BlobSettings
from broker.bus.settings import BusSettings
from broker.chat.settings import ChatSettings
from broker.directories.settings import DirectorySettings
from broker.errors import InvalidSettings
from broker.files.settings import FileSettings
from broker.infrastructure.api.settings import APISettings
from broker.infrastructure.fields import normalize_origin
from broker.infrastructure.outbound.settings import (
    SIGNING_KEY_ADVICE,
    OutboundSettings,
    webhook_url_problem,
)
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import (
    InvalidField,
    InvalidGroup,
    Settings,
    SettingsGroup,
    read_groups,
)
from broker.infrastructure.settings_sources import PREFIX, FoundValues, Source, collect
from broker.infrastructure.transport.settings import TransportSettings
from broker.infrastructure.urls import split
from broker.login.settings import LoginSettings
from broker.oidc.settings import OIDCSettings
from broker.policies.settings import PolicySettings
from broker.pool.settings import PoolSettings
from broker.providers.settings import ProviderSettings, is_pretend_allowed
from broker.providers.wechat.settings import WeChatSettings
from broker.records.settings import RecordsSettings
from broker.sessions.settings import SessionSettings
from broker.state.settings import StateSettings
from broker.tokens.settings import TokenSettings
from broker.tunnels.settings import TunnelSettings
from broker.wafer.settings import WaferSettings

GROUPS: Sequence[type[SettingsGroup]] = (
    ServerSettings,
    AdminSettings,
    TransportSettings,
    APISettings,
    AppSettings,
    LoginSettings,
    SessionSettings,
    TunnelSettings,
    WaferSettings,
    TokenSettings,
    OIDCSettings,
    ChatSettings,
    AuditSettings,
    StateSettings,
    BusSettings,
    RecordsSettings,
    BlobSettings,
    FileSettings,
    PoolSettings,
    ProviderSettings,
    WeChatSettings,
    DirectorySettings,
    PolicySettings,
    OutboundSettings,
)

FIELDS: Mapping[str, FieldInfo] = {
    name: field for group in GROUPS for name, field in group.model_fields.items()
}
"""Every setting, by name."""

ROLES = ("browser", "phone", "oauth", "sessions", "tunnels", "wafer", "oidc", "chat", "files")
"""The parts of the API that a process serves or leaves to other processes."""

OIDC = "oidc"


def find_values(file: Path | None = None) -> FoundValues:
    """Return the values of the environment and the file, not yet validated."""
    return collect(FIELDS, os.environ, file)


def load_settings(file: Path | None = None, **fixed: object) -> Settings:
    """Read all settings except those that are `fixed`.

    Raises InvalidSettings with all mistakes.  A check of several settings runs only if
    their groups have no other mistake.
    """
    if unknown := fixed.keys() - FIELDS.keys():
        raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
    found = find_values(file)
    sources = {**found.sources, **dict.fromkeys(fixed, Source("option"))}
    settings, invalid = read_groups(GROUPS, {**found.values, **fixed}, sources)
    mistakes = [*found.mistakes, *invalid]
    for check in CHECKS:
        with suppress(InvalidGroup):  # the group's mistakes are in the list
            mistakes += map(str, check(settings))
    for derive in DEFAULTS:
        with suppress(InvalidGroup):
            derive(settings)
    if mistakes:
        raise InvalidSettings(mistakes)
    return settings


def derive_origins(settings: Settings) -> None:
    apps, public_url = settings[AppSettings], settings[ServerSettings].public_url
    if not apps.origins:
        apps.derive(origins=(normalize_origin(public_url),))


def derive_pictures_url(settings: Settings) -> None:
    """Default: a folder next to the SQLite file, or in the current folder."""
    blobs, records = settings[BlobSettings], urlsplit(settings[RecordsSettings].records_url)
    if not blobs.pictures_url:
        is_file = records.scheme.startswith("sqlite")
        folder = Path(records.path[1:]).parent if is_file else Path()
        blobs.derive(pictures_url=(folder / "scan-login-pictures").absolute().as_uri())


def derive_pictures_public_url(settings: Settings) -> None:
    blobs, public_url = settings[BlobSettings], settings[ServerSettings].public_url
    if not blobs.pictures_public_url:
        blobs.derive(pictures_public_url=f"{public_url}/codes")


def derive_files_public_url(settings: Settings) -> None:
    blobs, public_url = settings[BlobSettings], settings[ServerSettings].public_url
    if not blobs.files_public_url:
        blobs.derive(files_public_url=f"{public_url}/files")


def derive_roles(settings: Settings) -> None:
    """Default: all that the public URL allows.  Sort them in the order of `ROLES`."""
    server = settings[ServerSettings]
    chosen = tuple(role for role in ROLES if role in server.roles)
    default = tuple(role for role in ROLES if role != OIDC or not server.insecure_reason())
    server.derive(roles=chosen or default)


DEFAULTS: Sequence[Callable[[Settings], None]] = (
    derive_origins,
    derive_pictures_url,
    derive_pictures_public_url,
    derive_files_public_url,
    derive_roles,
)
"""Defaults that depend on a setting of another group, or on a table here."""


def check_roles(settings: Settings) -> Iterator[InvalidField]:
    unknown = [role for role in settings[ServerSettings].roles if role not in ROLES]
    if unknown:
        yield InvalidField("roles", f"{unknown[0]!r} is unknown: use some of {', '.join(ROLES)}")
    reason = settings[ServerSettings].insecure_reason()
    if OIDC in settings[ServerSettings].roles and reason:
        yield InvalidField("roles", f"oidc: {reason}")


def check_operators(settings: Settings) -> Iterator[InvalidField]:
    server, admin = settings[ServerSettings], settings[AdminSettings]
    if not admin.admin_subjects:
        return
    if server.admin_token is None:
        yield InvalidField("admin_token", "missing; without it there is no admin page")
    if reason := server.insecure_reason():
        yield InvalidField("admin_subjects", reason)


def check_pretend_provider(settings: Settings) -> Iterator[InvalidField]:
    provider = settings[ProviderSettings].provider
    if provider == "pretend" and not is_pretend_allowed(settings):
        host = settings[ServerSettings].reachable_hosts()[0]
        yield InvalidField(
            "allow_pretend",
            "with the pretend provider anyone can log in as anyone, and other machines can reach "
            f"{host}: set {PREFIX}PROVIDER=wechat (see docs/wechat.md), or "
            f"{PREFIX}ALLOW_PRETEND=true for a trial in a network that you trust",
        )


def check_wechat_credentials(settings: Settings) -> Iterator[InvalidField]:
    if settings[ProviderSettings].provider != "wechat":
        return
    wechat = settings[WeChatSettings]
    for name, value in (
        ("wechat_appid", wechat.wechat_appid),
        ("wechat_secret", wechat.wechat_secret),
    ):
        if value is None:
            yield InvalidField(
                name, "missing; the provider wechat requires it; copy it from WeChat's console"
            )


def check_workers(settings: Settings) -> Iterator[InvalidField]:
    workers = settings[ServerSettings].workers
    state_url = settings[StateSettings].state_url
    urls = {"STATE_URL": state_url, "BUS_URL": settings[BusSettings].bus_url or state_url}
    local = [name for name, url in urls.items() if urlsplit(url).scheme == "memory"]
    if workers > 1 and local:
        yield InvalidField(
            "workers",
            f"{workers} processes cannot share memory; set {PREFIX}{local[0]} to a Redis server",
        )


def check_policy(settings: Settings) -> Iterator[InvalidField]:
    url = split(settings[PolicySettings].policy)
    if url.scheme:
        yield from _check_webhook(settings, "policy", url)


def check_direct_files(settings: Settings) -> Iterator[InvalidField]:
    url = settings[BlobSettings].files_url
    if settings[FileSettings].files_direct and urlsplit(url).scheme in ("", "file"):
        yield InvalidField("files_direct", f"requires {PREFIX}FILES_URL=s3://…")


def check_audit_url(settings: Settings) -> Iterator[InvalidField]:
    url = settings[AuditSettings].audit_url
    if url is not None:
        yield from _check_webhook(settings, "audit_url", split(url))


def check_chat_webhook(settings: Settings) -> Iterator[InvalidField]:
    url = split(settings[ChatSettings].chat_rooms)
    if not url.scheme:
        return
    yield from _check_webhook(settings, "chat_rooms", url)
    if settings[AppSettings].webhook_secret is None:
        yield InvalidField("webhook_secret", SIGNING_KEY_ADVICE)


def _check_webhook(settings: Settings, name: str, url: SplitResult) -> Iterator[InvalidField]:
    is_private_allowed = settings[OutboundSettings].webhooks_private
    problem = webhook_url_problem(
        url, is_private_allowed=is_private_allowed, setting="webhooks_private"
    )
    if problem:
        yield InvalidField(name, problem)


CHECKS: Sequence[Callable[[Settings], Iterator[InvalidField]]] = (
    check_roles,
    check_operators,
    check_pretend_provider,
    check_wechat_credentials,
    check_workers,
    check_policy,
    check_chat_webhook,
    check_audit_url,
    check_direct_files,
)
"""Checks that involve settings of two groups, or a table here."""
