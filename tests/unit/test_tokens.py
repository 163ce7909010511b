"""Tests of tokens that a site verifies with published keys, and of key rotation."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from broker.infrastructure.crypto.secret_file import KeyFileError, SecretFile
from broker.login.delivery import token_claims
from broker.login.model import State
from broker.tokens.issuer import TokenIssuer
from broker.tokens.keys import (
    ALGORITHMS,
    PUBLISHED_BEFORE_USE,
    KeyRings,
    SigningKeyFile,
    open_key_rings,
)
from tests.support.builders import ALICE, Clock, a_login
from tests.support.environment import miss

REQUIRED = ["exp", "iat", "sub", "aud", "iss", "jti"]


def make_issuer(path: Path, clock: Clock, algorithm: str = "ES256") -> TokenIssuer:
    return TokenIssuer(
        file=SigningKeyFile(path),
        algorithm=algorithm,
        issuer="https://login.example",
        lifetime=600,
        host_clock=clock,
    )


def redeemed_login(clock: Clock) -> Any:
    return a_login(
        clock,
        state=State.REDEEMED,
        phone=ALICE,
        subject="pretend:alice",
        confirmed_at=clock() - 2,
        redeemed_at=clock(),
    )


def verify(token: str, key_set: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """Verify a token as a site does, with the clock of the test."""
    header = jwt.get_unverified_header(token)
    [key] = [key for key in key_set["keys"] if key["kid"] == header["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token,
        jwt.PyJWK(key),
        algorithms=[key["alg"]],
        issuer="https://login.example",
        audience="shop",
        options={"require": REQUIRED, "verify_exp": False, "verify_iat": False},
    )
    assert claims["exp"] > clock()
    return claims


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_has_the_documented_claims(tmp_path: Path, clock: Clock, algorithm: str) -> None:
    issuer = make_issuer(tmp_path / "keys.json", clock, algorithm)

    token = issuer.issue(token_claims(redeemed_login(clock)))

    claims = verify(token.access_token, issuer.key_set(), clock)
    assert claims.pop("jti")
    assert claims == {
        "iss": "https://login.example",
        "sub": "pretend:alice",
        "aud": "shop",
        "client_id": "shop",
        "iat": 1_000_000,
        "exp": 1_000_600,
        "auth_time": 999_998,
        "amr": ["scan"],
        "idp": "pretend",
    }
    assert jwt.get_unverified_header(token.access_token)["typ"] == "at+jwt"
    assert token.expires_in == 600


def test_login_that_is_not_redeemed_has_no_claims(clock: Clock) -> None:
    with pytest.raises(ValueError, match="is not redeemed"):
        token_claims(a_login(clock))


def test_token_issued_again_later_has_the_same_claims(issuer: TokenIssuer, clock: Clock) -> None:
    login = redeemed_login(clock)

    first = issuer.issue(token_claims(login))
    clock.time += 45.5
    again = issuer.issue(token_claims(login))

    claims = [
        jwt.decode(token.access_token, options={"verify_signature": False})
        for token in (first, again)
    ]
    assert claims[0] == claims[1]
    assert claims[0]["jti"] == login.id
    assert (first.expires_in, again.expires_in) == (600, 600 - 45)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_set_has_no_private_members(tmp_path: Path, clock: Clock, algorithm: str) -> None:
    key_set = make_issuer(tmp_path / "keys.json", clock, algorithm).key_set()

    assert len(key_set["keys"]) == 2
    for key in key_set["keys"]:
        assert (key["alg"], key["use"]) == (algorithm, "sig")
        assert not set(key) & {"d", "p", "q", "dp", "dq", "qi", "k"}


def test_kid_is_the_thumbprint_of_the_key(issuer: TokenIssuer, clock: Clock) -> None:
    """The thumbprint of RFC 7638, computed from the text of the RFC."""
    for key in issuer.key_set()["keys"]:
        text = f'{{"crv":"{key["crv"]}","kty":"{key["kty"]}","x":"{key["x"]}","y":"{key["y"]}"}}'
        digest = hashlib.sha256(text.encode()).digest()
        assert key["kid"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Set a umask that removes no permission from new files."""
    former = os.umask(0)
    yield
    os.umask(former)


@pytest.mark.usefixtures("open_umask")
def test_key_file_is_readable_by_its_owner_only(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    make_issuer(path, clock)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_file_written_by_root_keeps_its_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        miss("only root can give files away")
    os.chown(tmp_path, 61_234, 61_234)
    file = SecretFile(tmp_path / "keys.json")

    file.create("new")
    created = file.path.stat()
    os.chown(file.path, 61_235, 61_235)
    file.replace("rotated")
    replaced = file.path.stat()

    assert (created.st_uid, created.st_gid) == (61_234, 61_234)
    assert (replaced.st_uid, replaced.st_gid) == (61_235, 61_235)
    assert stat.S_IMODE(replaced.st_mode) == 0o600


def test_restart_keeps_the_keys(tmp_path: Path, clock: Clock) -> None:
    first = make_issuer(tmp_path / "keys.json", clock).key_set()

    assert make_issuer(tmp_path / "keys.json", clock).key_set() == first


def test_simultaneous_first_starts_create_one_key_file(tmp_path: Path) -> None:
    file = SigningKeyFile(tmp_path / "keys.json")
    found: list[KeyRings] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_key_rings(file, ["ES256"], 0)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({rings.main.present["kid"] for rings in found}) == 1


def test_simultaneous_upgrades_add_one_ring(tmp_path: Path) -> None:
    """Processes that find a file of an older version agree on the keys that they add."""
    file = SigningKeyFile(tmp_path / "keys.json")
    open_key_rings(file, ["ES256"], 0)
    code = (
        "import pathlib, sys; from broker.tokens.keys import *;"
        "file = SigningKeyFile(pathlib.Path(sys.argv[1]));"
        "rings = open_key_rings(file, ['ES256', 'RS256'], 0);"
        "print(rings.others['RS256'].present['kid'], rings.main.present['kid'])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, file.path], stdout=subprocess.PIPE)
        for _ in range(4)
    ]

    answers = {process.communicate()[0] for process in processes}

    rings = file.load()
    assert rings is not None
    assert len(answers) == 1
    assert rings.others["RS256"].present["kid"].encode() in answers.pop()


def test_file_of_an_older_version_is_completed(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    make_issuer(path, clock)
    content = json.loads(path.read_text())
    older = {name: content[name] for name in ("present", "next", "former")}
    for key in (older["present"], older["next"]):
        del key["published_at"]
    path.write_text(json.dumps(older))
    os.utime(path, (500, 500))

    rings = open_key_rings(SigningKeyFile(path), ["ES256", "RS256"], 2_000)

    assert rings.main.present["kid"] == older["present"]["kid"]
    assert rings.main.next["published_at"] == 500
    assert rings.others["RS256"].next["published_at"] == 2_000
    completed = json.loads(path.read_text())
    assert completed["present"]["kid"] == older["present"]["kid"]  # an older version reads these
    assert completed["next"]["kid"] == older["next"]["kid"]
    assert completed["former"] == []


def test_incomplete_file_that_cannot_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SigningKeyFile(tmp_path / "keys.json")
    open_key_rings(file, ["ES256"], 0)

    def refuse(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)

    with pytest.raises(KeyFileError, match=r"no keys of RS256: run scan-login key create"):
        open_key_rings(file, ["ES256", "RS256"], 0)


def test_rotation_signs_with_the_key_published_before(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    issuer = make_issuer(path, clock)
    old_set = issuer.key_set()
    old_token = issuer.issue(token_claims(redeemed_login(clock))).access_token

    rotate(path, clock)
    clock.time += 5
    new_token = issuer.issue(token_claims(redeemed_login(clock))).access_token

    assert (
        jwt.get_unverified_header(new_token)["kid"] != jwt.get_unverified_header(old_token)["kid"]
    )
    assert verify(new_token, old_set, clock)
    assert verify(old_token, issuer.key_set(), clock)


def test_former_key_is_removed_after_its_last_token(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    issuer = make_issuer(path, clock)
    former = issuer.key_set()["keys"][0]["kid"]
    rotate(path, clock)

    clock.time += 600
    assert former in kids(issuer, clock)
    clock.time += 61
    assert former not in kids(issuer, clock)
    clock.time += 1_000
    rotate(path, clock)
    assert former not in path.read_text()


def test_other_algorithm_signs_once_its_keys_are_known(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    make_issuer(path, clock, "ES256")

    issuer = make_issuer(path, clock, "EdDSA")

    assert [key["alg"] for key in issuer.key_set()["keys"]] == ["ES256"] * 2 + ["EdDSA"] * 2
    assert algorithm_of(issuer, clock) == "ES256"
    clock.time += PUBLISHED_BEFORE_USE
    assert algorithm_of(issuer, clock) == "EdDSA"


@pytest.mark.parametrize("started", [False, True])
def test_rotation_keeps_an_unpublished_algorithm_from_signing(
    tmp_path: Path, clock: Clock, started: bool
) -> None:
    """started: whether a broker has started with the changed setting before `key rotate --now`."""
    path = tmp_path / "keys.json"
    make_issuer(path, clock, "ES256")
    if started:
        make_issuer(path, clock, "EdDSA")

    rotate(path, clock, "EdDSA")

    assert algorithm_of(make_issuer(path, clock, "EdDSA"), clock) == "ES256"


def test_rotation_makes_the_published_algorithm_the_main_one(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    make_issuer(path, clock, "ES256")
    issuer = make_issuer(path, clock, "EdDSA")
    known = kids(issuer, clock)
    clock.time += PUBLISHED_BEFORE_USE

    rotate(path, clock, "EdDSA")
    clock.time += 5

    token = issuer.issue(token_claims(redeemed_login(clock))).access_token
    assert jwt.get_unverified_header(token)["alg"] == "EdDSA"
    assert jwt.get_unverified_header(token)["kid"] in known
    assert json.loads(path.read_text())["present"]["alg"] == "EdDSA"


def algorithm_of(issuer: TokenIssuer, clock: Clock) -> str:
    token = issuer.issue(token_claims(redeemed_login(clock))).access_token
    return str(jwt.get_unverified_header(token)["alg"])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"present": 1, "next": 2, "former": []}', "null"]
)
def test_damaged_key_file_is_refused(tmp_path: Path, clock: Clock, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match="is damaged"):
        make_issuer(path, clock)
    assert path.read_text() == content


def test_key_file_readable_by_others_is_refused(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    make_issuer(path, clock)
    path.chmod(0o644)

    with pytest.raises(KeyFileError, match="chmod 600"):
        make_issuer(path, clock)


def test_missing_folder_of_the_key_file_is_reported(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KeyFileError, match="cannot write"):
        make_issuer(tmp_path / "nowhere" / "keys.json", clock)


def test_file_system_without_links_is_supported(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    path = tmp_path / "keys.json"

    first = make_issuer(path, clock).key_set()

    assert make_issuer(path, clock).key_set() == first
    assert not SigningKeyFile(path).create(KeyRings.new(["ES256"], 0))


def test_rotation_during_a_reload_is_noticed(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"

    class RotatingKeyFile(SigningKeyFile):
        def load(self) -> KeyRings | None:
            rings = super().load()
            if rings is not None and self.rotates:
                self.rotates = False
                rotate(path, clock)
            return rings

        rotates = False

    file = RotatingKeyFile(path)
    issuer = TokenIssuer(file=file, algorithm="ES256", issuer="x", lifetime=600, host_clock=clock)
    rotate(path, clock)
    file.rotates = True

    for _ in range(2):
        clock.time += 5
        keys = issuer.key_set()["keys"]

    rings = SigningKeyFile(path).load()
    assert rings is not None
    assert keys[0]["kid"] == rings.main.present["kid"]


def test_running_issuer_works_without_its_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    issuer = make_issuer(path, clock)
    path.unlink()
    clock.time += 5

    token = issuer.issue(token_claims(redeemed_login(clock))).access_token

    assert verify(token, issuer.key_set(), clock)


def test_running_issuer_ignores_a_damaged_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    issuer = make_issuer(path, clock)
    path.write_text(json.dumps({"present": {}}))
    clock.time += 5

    token = issuer.issue(token_claims(redeemed_login(clock))).access_token

    assert verify(token, issuer.key_set(), clock)


def rotate(path: Path, clock: Clock, algorithm: str = "ES256") -> None:
    file = SigningKeyFile(path)
    rings = file.load()
    assert rings is not None
    file.save(
        rings.rotated(now=clock(), token_lifetime=600, hint_lifetime=1_000, algorithm=algorithm)
    )


def kids(issuer: TokenIssuer, clock: Clock) -> set[str]:
    clock.time += 2
    return {key["kid"] for key in issuer.key_set()["keys"]}


@pytest.mark.parametrize(
    ("shared_offset", "issued_offset"), [(60, 0), (-10, -10), (-3600, -300)], ids=str
)
def test_issue_time_is_never_ahead_of_the_host(
    issuer: TokenIssuer, clock: Clock, shared_offset: float, issued_offset: float
) -> None:
    """A token is valid for 600 s here. It is at most half as old when it is issued."""
    assert issuer.issue_time(clock() + shared_offset) == clock() + issued_offset


def test_auth_time_is_never_after_the_issue_time(issuer: TokenIssuer, clock: Clock) -> None:
    """The shared clock that set `confirmed_at` is ahead of the clock of this host."""
    login = replace(redeemed_login(clock), confirmed_at=clock() + 58)

    claims = verify(issuer.issue(token_claims(login)).access_token, issuer.key_set(), clock)

    assert claims["auth_time"] == claims["iat"]
    assert claims["exp"] - claims["iat"] == 600
