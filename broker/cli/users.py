"""`scan-login user`: the people who may log in, as an operator writes them down."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.support import ConfigFile, T, read_settings, with_records
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import PREFIX
from broker.records.store import Records
from broker.users.rules import INVITATION_LIFETIME, PAGE_SIZE

if TYPE_CHECKING:
    from broker.users.model import User


command = typer.Typer(no_args_is_help=True, help="The people who may log in, and who they are.")

IdArgument = Annotated[
    str, typer.Argument(help="The user's id, the `sub` of tokens.", metavar="ID")
]

NewIdArgument = Annotated[
    str | None,
    typer.Argument(help="The `sub` of their tokens; made up when not given.", metavar="[ID]"),
]

NameOption = Annotated[str | None, typer.Option(help="What you call them.", show_default=False)]

OpenidOption = Annotated[
    str, typer.Option(help="The person's id at the provider: WeChat's openid.")
]

ProviderOption = Annotated[
    str | None, typer.Option(help="Who proves the phone; as the settings say when not given.")
]

ProviderAppIdOption = Annotated[
    str | None,
    typer.Option(
        help="Within which of the provider's apps: WeChat's appid; as the settings say when "
        "not given."
    ),
]

UnionidOption = Annotated[
    str | None,
    typer.Option(help="The person's id in all apps of one company.", show_default=False),
]

JSONOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@command.command()
def add(
    user_id: NewIdArgument = None,
    name: NameOption = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Write a user down, and print the id; `invite` or `link` then says who that is."""
    fields = {"id": user_id, "name": name}
    said = {key: value for key, value in fields.items() if value is not None}
    added = _do(file, lambda records: records.user_admin.add(said))
    _print_json(added.as_dict()) if as_json else print(added.id)


@command.command("set")
def change(user_id: IdArgument, name: NameOption, file: ConfigFile = None) -> None:
    """Give a user another name; "" takes it away."""
    _change(file, user_id, {"name": name or None})
    print(f"user {user_id} is changed")


@command.command()
def invite(
    user_id: IdArgument,
    expires_in: Annotated[
        int, typer.Option(help="Seconds for which it is good.")
    ] = INVITATION_LIFETIME,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Make an invitation: the one phone that shows it is the user's from then on.

    It is printed this once; a former one of the user's is worth nothing any more.
    """
    fields = {"expires_in": expires_in}
    made = _do(file, lambda records: records.user_admin.invite(user_id, fields))
    if as_json:
        _print_json({"invitation": made.secret, "expires_in": made.expires_in})
        return
    print(made.secret)
    print(f"good once, for {made.expires_in} seconds: who shows it is {user_id}", file=sys.stderr)


@command.command("list")
def list_users(as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Print all users, by id."""
    users = _do(file, _all)
    if as_json:
        _print_json([one.as_dict() for one in users])
        return
    for one in users:
        state = "blocked" if one.blocked else f"identities {len(one.identities)}"
        print(f"{one.id}  {state}  {one.name or ''}".rstrip())


@command.command()
def show(user_id: IdArgument, as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Print a user, with the identities by which they are known."""
    user = _do(file, lambda records: records.user_admin.get(user_id))
    if as_json:
        _print_json(user.as_dict())
        return
    print(f"{user.id}\n    name = {user.name or '-'}\n    blocked = {user.blocked}")
    for one in user.identities:
        print(
            f"    {one.provider} {one.provider_app_id or '-'} openid {one.id} "
            f"unionid {one.unionid or '-'}"
        )


@command.command()
def link(
    user_id: IdArgument,
    openid: OpenidOption,
    provider: ProviderOption = None,
    provider_app_id: ProviderAppIdOption = None,
    unionid: UnionidOption = None,
    file: ConfigFile = None,
) -> None:
    """Say by which identity a user is known at the phone's provider."""
    settings = _settings(file)
    identity = _identity(settings, provider, provider_app_id, openid)
    said = identity if unionid is None else {**identity, "unionid": unionid}
    with_records(settings, lambda records: records.user_admin.link(user_id, said))
    print(f"user {user_id} is who has the openid {openid}")


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
    with_records(settings, lambda records: records.user_admin.unlink(user_id, identity))
    print(f"user {user_id} is known by the openid {openid} no more")


@command.command()
def block(user_id: IdArgument, file: ConfigFile = None) -> None:
    """Let a user in no more; tokens that they have stay good until they end."""
    _change(file, user_id, {"blocked": True})
    print(f"user {user_id} is blocked")


@command.command()
def unblock(user_id: IdArgument, file: ConfigFile = None) -> None:
    """Let a user in again."""
    _change(file, user_id, {"blocked": False})
    print(f"user {user_id} is let in again")


@command.command()
def remove(
    user_id: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    file: ConfigFile = None,
) -> None:
    """Strike a user out, with identities and invitations: the person is unknown then."""
    settings = _settings(file)
    if not yes:
        typer.confirm(f"Remove {user_id}, and by whom they are known?", abort=True)
    with_records(settings, lambda records: records.user_admin.remove(user_id))
    print(f"user {user_id} is removed")


def _settings(file: Path | None) -> Settings:
    """The settings; ends the command where users are not looked for in the records."""
    settings = read_settings(file)
    if settings.directory != "sql":
        sys.exit(
            f"the directory is {settings.directory}, which asks for no users of the records: "
            f"set {PREFIX}DIRECTORY=sql, here and for the brokers"
        )
    return settings


def _do(file: Path | None, work: Callable[[Records], Awaitable[T]]) -> T:
    return with_records(_settings(file), work)


def _change(file: Path | None, user_id: str, fields: Mapping[str, object]) -> User:
    return _do(file, lambda records: records.user_admin.update(user_id, fields))


async def _all(records: Records) -> list[User]:
    users = page = await records.user_admin.list()
    while len(page) == PAGE_SIZE:
        page = await records.user_admin.list(after=page[-1].id)
        users += page
    return users


def _identity(
    settings: Settings, provider: str | None, provider_app_id: str | None, openid: str
) -> dict[str, str]:
    provider = provider or settings.provider
    own = (settings.wechat_appid or "") if provider == "wechat" else ""
    app_id = own if provider_app_id is None else provider_app_id
    return {"provider": provider, "provider_app_id": app_id, "openid": openid}


def _print_json(shown: object) -> None:
    print(json.dumps(shown, indent=2, ensure_ascii=False))
