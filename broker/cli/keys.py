"""`scan-login key`: the signing keys of tokens, and the keys that encrypt secrets."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from broker.cli.output import Columns, Item, JSONOption, field, print_json, print_list, time_of
from broker.cli.support import ConfigFile, read_settings, with_change
from broker.infrastructure.crypto.sealing import SealKeyFile
from broker.infrastructure.settings_sources import PREFIX
from broker.oidc.settings import OIDCSettings
from broker.records.settings import RecordsSettings
from broker.tokens.keys import (
    ID_TOKEN_ALGORITHMS,
    PUBLISHED_BEFORE_USE,
    KeyRings,
    RotationTooEarly,
    SigningKeyFile,
    open_key_rings,
    rotate_file,
)
from broker.tokens.settings import TokenSettings

command = typer.Typer(no_args_is_help=True)


@command.command()
def create(file: ConfigFile = None) -> None:
    """Create the key file and the seal file if they do not exist."""
    settings = read_settings(file)
    tokens, records = settings[TokenSettings], settings[RecordsSettings]
    keys = SigningKeyFile(tokens.key_file)
    open_key_rings(keys, [tokens.token_algorithm, *ID_TOKEN_ALGORITHMS], time.time())
    print(f"token keys: {keys.path.absolute()}")
    if not records.seal_keys:
        SealKeyFile(records.seal_file).keys()
        print(f"seal keys: {records.seal_file.absolute()}")


@command.command()
def rotate(
    file: ConfigFile = None,
    now: Annotated[
        bool,
        typer.Option(
            "--now", help="Rotate although products may not know the next key yet: a key leaked."
        ),
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Sign with the next keys, and publish new next keys.

    Running brokers read the file within seconds. Issued tokens stay valid.
    """
    settings = read_settings(file)
    tokens = settings[TokenSettings]
    keys = SigningKeyFile(tokens.key_file)
    _load(keys)
    time_now = time.time()
    try:
        rotated = rotate_file(
            keys,
            lambda rings: rings.rotated(
                now=time_now,
                token_lifetime=tokens.token_lifetime,
                hint_lifetime=settings[OIDCSettings].signin_lifetime,
                algorithm=tokens.token_algorithm,
            ),
            now=time_now,
            force=now,
        )
    except RotationTooEarly as error:
        sys.exit(
            f"the next key is public for less than {PUBLISHED_BEFORE_USE} seconds, so products "
            f"that cache the key set would refuse its tokens: try again in {error.wait:.0f} "
            "seconds, or add --now if a key has leaked"
        )
    if as_json:
        print_json(_described(rotated))
        return
    print(f"{keys.path.absolute()}:")
    for name, ring in rotated.all.items():
        print(f"{name}: signing with {ring.present['kid']}, next is {ring.next['kid']}")
    print(f"The next rotation is possible in {PUBLISHED_BEFORE_USE} seconds.")


COLUMNS: Columns = {
    "use": field("status"),
    "alg": field("algorithm"),
    "kid": field("kid"),
    "published": time_of("published_at"),
}


@command.command("list")
def list_keys(
    use: Annotated[
        str | None, typer.Option(help="Keys of this use only: present, next or former.")
    ] = None,
    alg: Annotated[str | None, typer.Option(help="Keys of this algorithm only.")] = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Print the keys of the key set: present, next, and former keys that are still valid."""
    rings = _load(SigningKeyFile(read_settings(file)[TokenSettings].key_file))
    keys = [
        key
        for key in _described(rings)
        if use in (None, key["status"]) and alg in (None, key["algorithm"])
    ]
    print_list(keys, COLUMNS, as_json=as_json)


@command.command()
def rewrap(
    file: ConfigFile = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="First add a new seal key to the seal file.")
    ] = False,
) -> None:
    """Encrypt all secrets of apps with the newest seal key."""
    settings = read_settings(file)
    seal = settings[RecordsSettings]
    if new_key and seal.seal_keys:
        sys.exit(
            f"the seal keys are in the settings: put a new key first in {PREFIX}SEAL_KEYS, "
            "restart every broker, and run scan-login key rewrap without --new-key"
        )
    if new_key:
        SealKeyFile(seal.seal_file).add()
    count = with_change(settings, "key rewrap", "", lambda records: records.app_admin.rewrap())
    print(f"{count} secrets had an older key; all secrets have the newest key now")


def _described(rings: KeyRings) -> list[Item]:
    return [key._asdict() for ring in rings.all.values() for key in ring.described(time.time())]


def _load(keys: SigningKeyFile) -> KeyRings:
    rings = keys.load()
    if rings is None:
        sys.exit(
            f"there are no keys in {keys.path.absolute()}: run scan-login key create, "
            f"or set {PREFIX}KEY_FILE to the broker's key file"
        )
    return rings
