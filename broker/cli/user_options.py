"""The options of `scan-login user add` and `user set`, one for each field of a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from broker.cli.options import takes_options

NameOption = Annotated[str | None, typer.Option(help="Name of the user.")]

NicknameOption = Annotated[str | None, typer.Option(help="Claim nickname.")]

UsernameOption = Annotated[
    str | None, typer.Option(help="Claim preferred_username, the account name in products.")
]

PictureOption = Annotated[str | None, typer.Option(help="Claim picture: URL of a picture.")]

LocaleOption = Annotated[str | None, typer.Option(help="Claim locale, such as zh-CN.")]

ZoneinfoOption = Annotated[str | None, typer.Option(help="Claim zoneinfo, such as Asia/Shanghai.")]

EmailOption = Annotated[str | None, typer.Option(help="Claim email.")]

EmailVerifiedOption = Annotated[
    bool | None,
    typer.Option(
        help="Whether the email address was verified to belong to the user. A new address "
        "needs it again.",
        show_default=False,
    ),
]

PhoneNumberOption = Annotated[
    str | None, typer.Option(help="Claim phone_number, such as +8613800138000.")
]

PhoneNumberVerifiedOption = Annotated[
    bool | None,
    typer.Option(
        help="Whether the phone number was verified to belong to the user. A new number needs "
        "it again.",
        show_default=False,
    ),
]

GroupOption = Annotated[
    list[str] | None,
    typer.Option(help="Claim groups; repeat it for several. All former groups are replaced."),
]

FIELD_OPTIONS: Mapping[str, Any] = {
    "name": NameOption,
    "nickname": NicknameOption,
    "preferred_username": UsernameOption,
    "picture": PictureOption,
    "locale": LocaleOption,
    "zoneinfo": ZoneinfoOption,
    "email": EmailOption,
    "email_verified": EmailVerifiedOption,
    "phone_number": PhoneNumberOption,
    "phone_number_verified": PhoneNumberVerifiedOption,
    "group": GroupOption,
}

takes_fields = takes_options(FIELD_OPTIONS)
