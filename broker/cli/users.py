"""`scan-login user`: the users in the broker's database."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.output import Columns, JSONOption, field, print_item, print_json, print_list
from broker.cli.support import (
    ConfigFile,
    T,
    YesOption,
    read_settings,
    usage_error,
    with_change,
    with_records,
)
from broker.cli.user_options import takes_fields
from broker.directories.settings import DirectorySettings
from broker.infrastructure.settings_sources import PREFIX
from broker.providers.settings import ProviderSettings
from broker.providers.wechat.settings import WeChatSettings
from broker.users.model import claim_values, new_user_id
from broker.users.rules import INVITATION_LIFETIME, PAGE_SIZE

if TYPE_CHECKING:
    from broker.infrastructure.settings import Settings
    from broker.records.store import Records
    from broker.users.model import User

command = typer.Typer(no_args_is_help=True)

IdArgument = Annotated[
    str, typer.Argument(help="Id of the user, the `sub` of tokens.", metavar="ID")
]

NewIdArgument = Annotated[
    str | None,
    typer.Argument(help="Id of the user, the `sub` of tokens. Default: generated.", metavar="[ID]"),
]

OpenidOption = Annotated[
    str, typer.Option(help="Id of the person at the provider; WeChat: openid.")
]

ProviderOption = Annotated[
    str | None, typer.Option(help="Provider of the identity. Default: the setting.")
]

ProviderAppIdOption = Annotated[
    str | None,
    typer.Option(
        help="App at the provider that the identity belongs to; WeChat: AppID. Default: the "
        "setting."
    ),
]

UnionidOption = Annotated[
    str | None,
    typer.Option(
        help="Id of the person in all apps of one company; WeChat: unionid.", show_default=False
    ),
]


@command.command()
@takes_fields
def add(
    user_id: NewIdArgument = None,
    *,
    as_json: JSONOption = False,
    file: ConfigFile = None,
    **options: Any,
) -> None:
    """Add a user and print the id. Then use `invite` or `link` to add an identity."""
    user_id = new_user_id() if user_id is None else user_id
    fields = _fields(id=user_id, **options)
    added = with_change(
        _settings(file), "user add", user_id, lambda records: records.user_admin.add(fields)
    )
    print_json(added.as_dict()) if as_json else print(added.id)


@command.command("set")
@takes_fields
def change(user_id: IdArgument, *, file: ConfigFile = None, **options: Any) -> None:
    """Change the fields that are given; "" removes a field's value."""
    fields = _fields(**options)
    if not fields:
        usage_error("no change is given; see scan-login user set --help")
    _change(file, "user set", user_id, fields)
    print(f"user {user_id} is changed")


@command.command()
def invite(
    user_id: IdArgument,
    expires_in: Annotated[
        int, typer.Option(help="Lifetime of the invitation, in seconds.")
    ] = INVITATION_LIFETIME,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Create an invitation: the first phone that uses it is linked to the user.

    Prints the invitation, once. Earlier invitations of the user become invalid.
    """
    fields = {"expires_in": expires_in}
    invitation = with_change(
        _settings(file),
        "user invite",
        user_id,
        lambda records: records.user_admin.invite(user_id, fields),
    )
    if as_json:
        print_json({"invitation": invitation.secret, "expires_in": invitation.expires_in})
        return
    print(invitation.secret)
    print(
        f"valid for one phone and {invitation.expires_in} seconds: it links the phone to {user_id}",
        file=sys.stderr,
    )


USER_COLUMNS: Columns = {
    "id": field("id"),
    "status": lambda user: "blocked" if user["blocked"] else "active",
    "identities": field("identity_count"),
    "name": field("name"),
}

IDENTITY_COLUMNS: Columns = {
    "provider": field("provider"),
    "app": field("provider_app_id"),
    "openid": field("openid"),
    "unionid": field("unionid"),
}


@command.command("list")
def list_users(
    name: Annotated[
        str | None, typer.Option(help="Users whose name or id contains this text only.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Users in this group only.")] = None,
    blocked: Annotated[
        bool | None, typer.Option("--blocked/--active", help="Users of this status only.")
    ] = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Print all users, by id."""
    users = [
        user
        for user in _do(file, _all)
        if (name is None or name.lower() in f"{user.id}\n{user.name or ''}".lower())
        and (group is None or group in (claim_values(user.profile).get("groups") or ()))
        and blocked in (None, user.blocked)
    ]
    if as_json:
        print_json([user.as_dict() for user in users])
        return
    rows = [{**user.as_dict(), "identity_count": len(user.identities)} for user in users]
    print_list(rows, USER_COLUMNS, as_json=False)


@command.command()
def show(user_id: IdArgument, as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Print a user and the linked identities."""
    user = _do(file, lambda records: records.user_admin.get(user_id)).as_dict()
    if as_json:
        print_json(user)
        return
    fields = {name: value for name, value in user.items() if name != "identities"}
    print_item(fields, as_json=False, times=("created_at", "changed_at"))
    if user["identities"]:
        print()
        print_list(user["identities"], IDENTITY_COLUMNS, as_json=False)


@command.command()
def link(
    user_id: IdArgument,
    openid: OpenidOption,
    provider: ProviderOption = None,
    provider_app_id: ProviderAppIdOption = None,
    unionid: UnionidOption = None,
    file: ConfigFile = None,
) -> None:
    """Link an identity to a user."""
    settings = _settings(file)
    identity = _identity(settings, provider, provider_app_id, openid)
    if unionid is not None:
        identity["unionid"] = unionid
    with_change(
        settings,
        "user link",
        user_id,
        lambda records: records.user_admin.link(user_id, identity),
    )
    print(f"the openid {openid} is linked to user {user_id}")


@command.command()
def unlink(
    user_id: IdArgument,
    openid: OpenidOption,
    provider: ProviderOption = None,
    provider_app_id: ProviderAppIdOption = None,
    file: ConfigFile = None,
) -> None:
    """Remove an identity from a user, and revoke the user's invitations.

    If the user has another identity with the same unionid, the next login links
    it again: block the user, or unlink all of them.
    """
    settings = _settings(file)
    identity = _identity(settings, provider, provider_app_id, openid)
    with_change(
        settings,
        "user unlink",
        user_id,
        lambda records: records.user_admin.unlink(user_id, identity),
    )
    print(f"the openid {openid} is not linked to user {user_id} any longer")


@command.command()
def block(user_id: IdArgument, file: ConfigFile = None) -> None:
    """Refuse a user's logins. Issued tokens stay valid until they expire."""
    _change(file, "user block", user_id, {"blocked": True})
    print(f"user {user_id} is blocked")


@command.command()
def unblock(user_id: IdArgument, file: ConfigFile = None) -> None:
    """Accept a user's logins again."""
    _change(file, "user unblock", user_id, {"blocked": False})
    print(f"user {user_id} is unblocked")


@command.command()
def remove(user_id: IdArgument, yes: YesOption = False, file: ConfigFile = None) -> None:
    """Delete a user with identities and invitations."""
    settings = _settings(file)
    if not yes:
        typer.confirm(f"Remove {user_id} with identities and invitations?", abort=True)
    with_change(
        settings, "user remove", user_id, lambda records: records.user_admin.remove(user_id)
    )
    print(f"user {user_id} is removed")


def _fields(*, group: list[str] | None, **options: object) -> dict[str, object]:
    """Return the fields that the options set; None for a value that is removed."""
    fields = {**options, "groups": group}
    given = {name: value for name, value in fields.items() if value is not None}
    return {name: None if value in ("", [""]) else value for name, value in given.items()}


def _settings(file: Path | None) -> Settings:
    """Return the settings.  End the command if the broker does not use the records' users."""
    settings = read_settings(file)
    directory = settings[DirectorySettings].directory
    if directory != "sql":
        sys.exit(
            f"the directory is {directory}, which does not use the users in the records: "
            f"set {PREFIX}DIRECTORY=sql, here and for the brokers"
        )
    return settings


def _do(file: Path | None, work: Callable[[Records], Awaitable[T]]) -> T:
    return with_records(_settings(file), work)


def _change(file: Path | None, act: str, user_id: str, fields: Mapping[str, object]) -> None:
    with_change(
        _settings(file), act, user_id, lambda records: records.user_admin.update(user_id, fields)
    )


async def _all(records: Records) -> list[User]:
    users = page = await records.user_admin.list()
    while len(page) == PAGE_SIZE:
        page = await records.user_admin.list(after=page[-1].id)
        users += page
    return users


def _identity(
    settings: Settings, provider: str | None, provider_app_id: str | None, openid: str
) -> dict[str, str]:
    provider = provider or settings[ProviderSettings].provider
    appid = (settings[WeChatSettings].wechat_appid or "") if provider == "wechat" else ""
    return {
        "provider": provider,
        "provider_app_id": appid if provider_app_id is None else provider_app_id,
        "openid": openid,
    }
