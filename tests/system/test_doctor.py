"""`scan-login doctor`: each check finds its fault."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import web

from broker.cli.checks.model import Check, CheckResult, Failed, Installation, Warned, run_check
from broker.cli.checks.table import CHECKS
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.records.errors import RecordsUnavailable
from broker.records.migrations import HEAD, REVISIONS, VERSION_TABLE
from broker.settings import find_values, load_settings
from tests.support.builders import RunningBroker, StartBroker
from tests.support.certificate import certificate
from tests.support.commands import Call, run, serving
from tests.support.doctor import examine, own_address, relay
from tests.support.environment import free_port, miss, shifted
from tests.support.files import running_clamd
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import KEPT, PLAIN, RedisServer, redis_program, running
from tests.support.webhook import OTHER_SECRET, SECRET
from tests.support.wechat import APPID, pretending
from tests.support.wechat import SECRET as WECHAT_SECRET

PUBLIC = {"public_url": "https://login.example", "allow_pretend": True}

TOKEN = "operator-" * 4


def outcome(result: CheckResult) -> tuple[str, bool]:
    """Return the status of a result, and whether it names a fix."""
    return result.status.value, bool(result.fix)


FAILED, WARNING, OK = ("failed", True), ("warning", True), ("ok", False)

SKIPPED = ("skipped", False)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program(), *PLAIN) as server:
        yield server


def report(text: str) -> dict[str, CheckResult]:
    return {one["check"]: CheckResult(**one) for one in json.loads(text)}


# The command


def test_healthy_installation_has_no_failure(tmp_path: Path) -> None:
    port, admin_port = free_port(), free_port()
    variables = {
        "SCAN_LOGIN_PORT": str(port),
        "SCAN_LOGIN_ADMIN_PORT": str(admin_port),
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
    }
    with serving(tmp_path, **variables):
        done = run(tmp_path, "doctor", "--json", **variables)
        table = run(tmp_path, "doctor", **variables)

    results = report(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert [*results] == [check.name for check in CHECKS]
    assert {one.status for one in results.values()} <= {"ok", "skipped", "warning"}
    assert results["keys: next"].status == "ok"
    assert "can be rotated in" in results["keys: next"].detail
    assert results["public URL: client address"].status == "ok"
    assert table.stdout.startswith("STATUS")
    assert "What to do:" not in table.stdout


def test_invalid_settings_are_reported(call: Call) -> None:
    done = call("doctor", "--json", SCAN_LOGIN_PORT="x", SCAN_LOGIN_PROT="1")

    results = report(done.text)
    assert done.code == 1
    assert results["settings: values"].status == "failed"
    assert "SCAN_LOGIN_PORT: must be an integer" in results["settings: values"].detail
    assert results["settings: names"].status == "warning"
    assert "did you mean SCAN_LOGIN_PORT?" in results["settings: names"].detail
    assert results["state: round trip"].status == "skipped"


def test_doctor_creates_no_file(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", SCAN_LOGIN_PORT=str(free_port()))

    assert done.returncode == 1
    assert "What to do:\npublic URL: answer" in done.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [Failed, Warned, OSError])
async def test_doctor_hides_passwords(error: type[Exception]) -> None:
    async def fail(installation: Installation) -> str:
        raise error("no answer from redis://user:hunter2@127.0.0.1")

    installation = Installation(find_values(), [], load_settings(), AsyncExitStack())
    result = await run_check(Check("state", fail, "start it"), installation)

    assert result.detail == "no answer from redis://user:[hidden]@127.0.0.1"


# Settings


async def test_missing_settings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = await examine("settings: values")
    monkeypatch.setenv("SCAN_LOGIN_PORT", "8001")
    loaded = await examine("settings: values")

    assert [outcome(missing), outcome(loaded)] == [WARNING, OK]
    assert "set -a; . /etc/scan-login/env" in missing.fix


async def test_pretend_provider_on_public_address_is_found() -> None:
    assert outcome(await examine("settings: pretend", **PUBLIC)) == WARNING


async def test_missing_trusted_proxies_are_found() -> None:
    check = "settings: trusted proxies"

    assert outcome(await examine(check, **PUBLIC)) == WARNING
    assert outcome(await examine(check, **PUBLIC, trusted_proxies="127.0.0.1")) == OK


# Public URL


async def test_unknown_host_name_is_found() -> None:
    result = await examine(
        "public URL: name", public_url="https://login.invalid", allow_pretend=True
    )

    assert outcome(result) == FAILED


async def test_address_of_another_machine_is_found() -> None:
    result = await examine("public URL: name", public_url="https://203.0.113.7", allow_pretend=True)

    assert outcome(result) == WARNING


async def test_closed_port_is_found(broker: RunningBroker) -> None:
    check = "public URL: answer"

    assert outcome(await examine(check, public_url=broker.url)) == OK
    assert outcome(await examine(check, public_url=f"http://127.0.0.1:{free_port()}")) == FAILED


@asynccontextmanager
async def certified(folder: Path, *, age_days: float) -> AsyncIterator[str]:
    """Serve a self-signed certificate, which expires in a day; yields the URL."""
    certificate(folder, age_days=age_days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


async def test_refused_certificate_is_found_once(tmp_path: Path) -> None:
    async with certified(tmp_path, age_days=1) as url:
        refused = await examine("public URL: certificate", public_url=url)
        answer = await examine("public URL: answer", public_url=url)

    assert outcome(refused) == FAILED
    assert "self-signed certificate" in refused.detail
    assert "a CA that browsers trust" in refused.fix
    assert outcome(answer) == SKIPPED


@pytest.mark.parametrize(("age_days", "expected"), [(9, WARNING), (1, OK)])
async def test_certificate_that_expires_early_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    age_days: float,
    expected: tuple[str, bool],
) -> None:
    """Certificates with a short lifetime, as of Caddy's own CA, are renewed late."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    async with certified(tmp_path, age_days=age_days) as url:
        result = await examine("public URL: certificate", public_url=url)

    assert outcome(result) == expected
    assert "expires in 24 hours" in result.detail


async def test_unreachable_https_url_is_found_once() -> None:
    url = f"https://127.0.0.1:{free_port()}"

    answer = await examine("public URL: answer", public_url=url)
    unread = await examine("public URL: certificate", public_url=url)

    assert [outcome(answer), outcome(unread)] == [FAILED, SKIPPED]
    assert "object at" not in answer.detail
    assert "correct SCAN_LOGIN_PUBLIC_URL" in answer.fix


@pytest.mark.parametrize("status", [308, 404])
async def test_wrong_public_url_is_found(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "https://login.example/"})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    async with serve_sites([Site("proxy", application, "127.0.0.1", 0, "PORT")]) as addresses:
        result = await examine("public URL: answer", public_url=addresses["proxy"])

    assert outcome(result) == FAILED
    assert result.detail.endswith(f"has status {status}, to https://login.example/")
    assert "correct SCAN_LOGIN_PUBLIC_URL" in result.fix


async def test_proxy_without_websocket_is_found(broker: RunningBroker) -> None:
    async def live(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path == "/health/live" else 400)

    application = web.Application()
    application.router.add_get("/{path:.*}", live)
    check = "public URL: WebSocket"
    async with serve_sites([Site("proxy", application, "127.0.0.1", 0, "PORT")]) as addresses:
        blocked = await examine(check, public_url=addresses["proxy"])

    assert outcome(blocked) == FAILED
    assert outcome(await examine(check, public_url=broker.url)) == OK


async def test_proxy_that_hides_addresses_is_found(start_broker: StartBroker) -> None:
    host, admin_port = own_address(), free_port()
    operator = {"admin_token": TOKEN, "admin_port": admin_port}
    broker = await start_broker(**operator, origins=["https://shop.example"])
    port = int(broker.url.rpartition(":")[2])
    settings = {**operator, "origins": ["https://shop.example"], "allow_pretend": True}
    check = "public URL: client address"

    async with relay(port, host=host) as hiding:
        hidden = await examine(check, public_url=f"http://{host}:{hiding}", **settings)
    direct = await examine(check, public_url=broker.url, **settings)

    assert outcome(hidden) == FAILED
    assert f"127.0.0.1, instead of {host}" in hidden.detail
    assert outcome(direct) == OK


async def test_wrong_admin_token_is_found(start_broker: StartBroker) -> None:
    admin_port = free_port()
    broker = await start_broker(admin_token=TOKEN, admin_port=admin_port)

    result = await examine(
        "public URL: client address",
        public_url=broker.url,
        admin_port=admin_port,
        admin_token="other-" * 6,
    )

    assert outcome(result) == FAILED
    assert "status 401" in result.detail


async def test_doctor_reaches_admin_port_over_ipv6(start_broker: StartBroker) -> None:
    if not socket.has_ipv6:
        miss("this machine has no IPv6 on loopback")
    admin_port = free_port()
    broker = await start_broker(admin_token=TOKEN, admin_port=admin_port)

    async with relay(admin_port, host="::1") as relayed:
        result = await examine(
            "public URL: client address",
            public_url=broker.url,
            admin_host="::1",
            admin_port=relayed,
            admin_token=TOKEN,
        )

    assert outcome(result) == OK


# State, bus and clocks


async def test_unreachable_state_is_found(redis: RedisServer) -> None:
    check = "state: round trip"

    assert outcome(await examine(check, state_url=redis.url)) == OK
    assert outcome(await examine(check, state_url=f"redis://127.0.0.1:{free_port()}")) == FAILED


async def test_remedy_of_a_full_state_is_its_memory(redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("maxmemory", "1")
        full = await examine("state: round trip", state_url=redis.url)
        client.config_set("maxmemory", "0")

    assert outcome(full) == FAILED
    assert full.detail == "a write is refused: OOM"
    assert "more memory" in full.fix


async def test_old_state_server_is_found(redis: RedisServer) -> None:
    def age(data: bytes) -> bytes:
        return data.replace(b"redis_version:7", b"redis_version:5")

    async with relay(redis.port, change=age) as port:
        old = await examine("state: version", state_url=f"redis://127.0.0.1:{port}")

    assert outcome(old) == FAILED
    assert outcome(await examine("state: version", state_url=redis.url)) == OK


async def test_evicting_state_is_found(redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        evicting = await examine("state: eviction", state_url=redis.url)
        client.config_set("maxmemory-policy", "noeviction")

    assert outcome(evicting) == FAILED
    assert outcome(await examine("state: eviction", state_url=redis.url)) == OK


async def test_state_without_persistence_is_found(redis: RedisServer) -> None:
    assert outcome(await examine("state: persistence", state_url=redis.url)) == WARNING
    with running(redis_program(), *KEPT) as kept:
        assert outcome(await examine("state: persistence", state_url=kept.url)) == OK


async def test_missing_permission_is_found(redis: RedisServer) -> None:
    with redis.client() as client:
        rules = ["on", ">pw", "~*", "&*", "+@all", "-xadd"]
        client.execute_command("ACL", "SETUSER", "broker", *rules)
    url = f"redis://broker:pw@127.0.0.1:{redis.port}"

    refused = await examine("state: permissions", state_url=url)
    allowed = await examine("state: permissions", state_url=redis.url)

    assert outcome(refused) == FAILED
    assert refused.detail.endswith("may not run XADD")
    assert outcome(allowed) == OK
    with redis.client() as client:
        assert client.keys() == []


async def test_unreachable_state_skips_check_of_permissions(redis: RedisServer) -> None:
    for url in (f"redis://127.0.0.1:{free_port()}", f"redis://broker:wrong@{redis.url[8:]}"):
        assert outcome(await examine("state: permissions", state_url=url)) == SKIPPED


async def test_unreachable_bus_is_found(redis: RedisServer) -> None:
    urls = {"state_url": redis.url}

    assert outcome(await examine("bus: notice", **urls)) == OK
    unreachable = await examine("bus: notice", **urls, bus_url=f"redis://127.0.0.1:{free_port()}")
    assert outcome(unreachable) == FAILED


async def test_wrong_clock_is_found(
    redis: RedisServer, broker: RunningBroker, tmp_path: Path
) -> None:
    variables = {"SCAN_LOGIN_STATE_URL": redis.url, "SCAN_LOGIN_PUBLIC_URL": broker.url}

    done = await asyncio.to_thread(
        run, tmp_path, "doctor", "--json", **variables, **shifted("+60s")
    )

    results = report(done.stdout)
    for name in ("clock: state", "clock: public URL"):
        assert (results[name].status, bool(results[name].fix)) == FAILED
        difference = re.search(r"by (-\d+)", results[name].detail)
        assert difference
        assert -70 < int(difference[1]) < -50


# Records and keys


async def test_unreachable_database_is_found() -> None:
    url = f"postgresql+asyncpg://user@127.0.0.1:{free_port()}/scanlogin"

    assert outcome(await examine("records: tables", records_url=url)) == FAILED


async def test_missing_revision_is_found(records_file: Path) -> None:
    settings = {"records_url": f"sqlite+aiosqlite:///{records_file}"}
    with closing(sqlite3.connect(records_file)) as database:
        database.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", [REVISIONS[-2]])
        database.commit()

    result = await examine("records: tables", **settings)

    assert outcome(result) == FAILED
    assert HEAD in result.detail
    assert "records migrate" in result.fix


async def test_newer_database_is_found(records_file: Path) -> None:
    with closing(sqlite3.connect(records_file)) as database:
        database.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        database.commit()

    result = await examine("records: tables", records_url=f"sqlite+aiosqlite:///{records_file}")

    assert outcome(result) == FAILED
    assert result.detail.endswith(f"newer than revision {HEAD} of this program")
    assert "install the version of scan-login that wrote them" in result.fix


async def test_locked_database_is_found(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")

        result = await examine("records: tables", records_url=f"sqlite+aiosqlite:///{file}")

    assert outcome(result) == FAILED
    assert result.detail.endswith("database is locked")
    assert "another program locks the file" in result.fix


async def test_database_that_cannot_be_opened_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "records.db"
    folder.mkdir()

    result = await examine("records: tables", records_url=f"sqlite+aiosqlite:///{folder}")

    assert outcome(result) == FAILED
    assert "belongs to another user" in result.fix


async def test_database_server_without_tls_is_found(postgres: PostgresServer) -> None:
    url = f"{postgres.url()}?sslmode=require"

    result = await examine("records: tables", records_url=url)

    assert outcome(result) == FAILED
    assert "rejected SSL upgrade" in result.detail
    assert "remove sslmode" in result.fix


def test_refused_password_has_its_own_remedy() -> None:
    error = RecordsUnavailable('password authentication failed for user "scanlogin"')

    assert error.remedy == "correct user and password in SCAN_LOGIN_RECORDS_URL"


def test_wrong_seal_key_is_found(call: Call, tmp_path: Path) -> None:
    call("app", "add", "shop", "--secret", stdin="hunter2")
    right = asyncio.run(examine("records: seal keys"))
    (tmp_path / "scan-login-seal.json").unlink()
    missing = asyncio.run(examine("records: seal keys"))
    call("key", "create")

    wrong = asyncio.run(examine("records: seal keys"))

    assert [outcome(one) for one in (right, missing, wrong)] == [OK, WARNING, FAILED]
    assert "which this instance does not have" in wrong.detail


def test_readable_key_file_is_found(call: Call, tmp_path: Path) -> None:
    call("key", "create")
    right = report(call("doctor", "--json").text)["keys: file"]
    (tmp_path / "scan-login-keys.json").chmod(0o644)

    readable = report(call("doctor", "--json").text)["keys: file"]

    assert (right.status, readable.status) == ("ok", "failed")
    assert "can be read by other users" in readable.detail
    assert "chmod 600" in readable.fix


async def test_damaged_key_file_is_found_once(broker: RunningBroker, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.touch(mode=0o600)
    settings = {"key_file": damaged, "public_url": broker.url}

    file = await examine("keys: file", **settings)
    key_set = await examine("discovery: key set", **settings)

    assert [outcome(file), outcome(key_set)] == [FAILED, SKIPPED]
    assert file.fix.startswith("restore it from a backup")


async def test_file_of_another_user_is_found(key_file: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        miss("only root can give files away")
    path = shutil.copy(key_file, tmp_path)
    os.chown(tmp_path, 61_234, 61_234)

    other = await examine("files: owners", key_file=path)
    os.chown(path, 61_234, 61_234)
    own = await examine("files: owners", key_file=path)

    assert [outcome(other), outcome(own)] == [FAILED, OK]
    assert other.detail == f"{path} belongs to root, and {tmp_path} to the user 61234"


async def test_age_of_keys_is_found(key_file: Path) -> None:
    """The keys of this file were published in 1970."""
    assert outcome(await examine("keys: age", key_file=key_file)) == WARNING
    assert outcome(await examine("keys: next", key_file=key_file)) == OK


async def test_unpublished_key_is_found(key_file: Path, tmp_path: Path) -> None:
    content = json.loads(key_file.read_text())
    content["next"]["published_at"] = 4e9
    new = tmp_path / "new.json"
    new.touch(mode=0o600)
    new.write_text(json.dumps(content))

    assert outcome(await examine("keys: next", key_file=new)) == WARNING


def test_new_key_file_is_accepted(call: Call) -> None:
    call("key", "create")

    result = report(call("doctor", "--json").text)["keys: next"]

    assert (result.status, result.fix) == ("ok", "")
    assert result.detail.startswith("the keys can be rotated in ")


# Provider and webhooks


async def test_error_of_wechat_is_found() -> None:
    async with pretending() as wechat:
        working = await examine("provider: code", **wechat.settings())
        wechat.wechat.faults.set("getwxacodeunlimit", "45009")
        refused = await examine("provider: code", **wechat.settings())

    assert [outcome(working), outcome(refused)] == [OK, FAILED]
    assert "45009" in refused.detail
    assert refused.fix == "reached WeChat's limit of 5 000 codes a minute for all instances"


async def test_unavailable_provider_skips_client_address(broker: RunningBroker) -> None:
    async with pretending() as wechat:
        wechat.wechat.faults.set("getwxacodeunlimit", "45009")
        result = await examine(
            "public URL: client address", **{**wechat.settings(), "public_url": broker.url}
        )

    assert outcome(result) == SKIPPED
    assert result.detail == "needs the check provider: code"


async def test_app_without_provider_secret_is_found(call: Call) -> None:
    await asyncio.to_thread(call, "app", "add", "plain")
    working = await examine("provider: apps")
    account = ("--provider", "wechat", "--provider-app-id", APPID)
    await asyncio.to_thread(call, "app", "add", "red", *account)

    failing = await examine("provider: apps")

    assert [outcome(working), outcome(failing)] == [OK, FAILED]
    assert failing.detail.startswith("red: the provider wechat requires an AppID and an AppSecret")
    assert "--secret" in failing.fix


async def test_database_fault_keeps_its_remedy() -> None:
    async def fail(installation: Installation) -> str:
        raise RecordsUnavailable("database is locked")

    installation = Installation(find_values(), [], load_settings(), AsyncExitStack())
    result = await run_check(Check("provider: apps", fail, "add an account"), installation)

    assert result.detail == "database is locked"
    assert "fuser" in result.fix


@pytest.mark.parametrize(
    "own", [("--provider-app-id", APPID, "--secret"), ()], ids=["of the app", "of the settings"]
)
async def test_refused_account_of_an_app_is_found(call: Call, own: Sequence[str]) -> None:
    """The app default has another provider."""
    await asyncio.to_thread(
        call, "app", "add", "red", "--provider", "wechat", *own, stdin=WECHAT_SECRET
    )
    async with pretending() as wechat:
        settings = {**wechat.settings(), "provider": "pretend"}
        working = await examine("provider: apps", **settings)
        wechat.wechat.faults.set("getwxacodeunlimit", "45009")
        refused = await examine("provider: apps", **settings)

    assert [outcome(working), outcome(refused)] == [OK, FAILED]
    assert refused.detail.startswith("red: getwxacodeunlimit failed with 45009")


def test_pool_without_codes_is_found(call: Call) -> None:
    call("app", "add", "red", "--code-source", "pool")
    empty = asyncio.run(examine("provider: pools"))
    call("pool", "fill", "--app", "red", "--count", "1")

    filled = asyncio.run(examine("provider: pools"))

    assert [outcome(empty), outcome(filled)] == [WARNING, OK]
    assert empty.detail.endswith(": red")


@asynccontextmanager
async def receiver(status: int, **fields: object) -> AsyncIterator[str]:
    """Run a server of a site; yields its URL."""

    async def answer(request: web.Request) -> web.Response:
        data = (await request.json())["data"]
        echo = {"challenge": data["challenge"]} if "challenge" in data else {}
        return web.json_response({**fields, **echo}, status=status)

    application = web.Application()
    application.router.add_post("/hook", answer)
    async with serve_sites([Site("site", application, "127.0.0.1", 0, "PORT")]) as addresses:
        yield f"{addresses['site']}/hook"


def webhook_settings(check: str, url: str) -> dict[str, object]:
    """Return the settings of the webhook that a check calls."""
    settings: dict[str, dict[str, object]] = {
        "webhooks: directory": {
            "directory": url,
            "directory_private": True,
            "directory_secret": SECRET,
        },
        "webhooks: chat": {"chat_rooms": url, "webhook_secret": [SECRET]},
        "webhooks: audit": {"audit_url": url, "audit_secret": OTHER_SECRET},
        "webhooks: tunnels": {"tunnel_url": url, "webhook_secret": [SECRET]},
    }
    return {"webhooks_private": True, **settings[check]}


@pytest.mark.parametrize(
    "check", ["webhooks: directory", "webhooks: tunnels", "webhooks: chat", "webhooks: audit"]
)
async def test_failing_webhook_is_found(check: str) -> None:
    async with receiver(200) as url:
        working = await examine(check, **webhook_settings(check, url))
    async with receiver(401) as url:
        refusing = await examine(check, **webhook_settings(check, url))
    closed = await examine(check, **webhook_settings(check, f"http://127.0.0.1:{free_port()}/hook"))

    assert [outcome(one) for one in (working, refusing, closed)] == [OK, FAILED, FAILED]


async def test_failing_webhook_of_files_is_found(call: Call) -> None:
    await asyncio.to_thread(call, "app", "add", "red")

    async def check(url: str) -> CheckResult:
        await asyncio.to_thread(call, "app", "set", "red", "--files-url", url)
        return await examine("webhooks: files", webhooks_private=True)

    without_secret = await check("https://a.example/hook")
    await asyncio.to_thread(call, "app", "rotate-webhook-secret", "red")
    async with receiver(403) as url:
        working = await check(url)
    async with receiver(401) as url:
        refusing = await check(url)

    assert [outcome(one) for one in (without_secret, working, refusing)] == [FAILED, OK, FAILED]
    assert "rotate-webhook-secret red" in without_secret.fix


# Files


async def test_store_that_cannot_be_listed_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "files"

    missing = await examine("files: store", files_url=folder.as_uri())
    is_untouched = not folder.exists()
    folder.mkdir()
    working = await examine("files: store", files_url=folder.as_uri())
    closed = await examine(
        "files: store",
        files_url="s3://bucket/files",
        files_endpoint=f"http://127.0.0.1:{free_port()}",
    )

    assert [outcome(one) for one in (missing, working, closed)] == [OK, OK, FAILED]
    assert is_untouched


async def test_scanner_that_does_not_answer_is_found(tmp_path: Path) -> None:
    socket = tmp_path / "clamd"
    settings = {"files_url": tmp_path.as_uri(), "clamd": socket}

    async with running_clamd(socket):
        working = await examine("files: scanner", **settings)
    stopped = await examine("files: scanner", **settings)

    assert [outcome(one) for one in (working, stopped)] == [OK, FAILED]


# Discovery


async def test_wrong_issuer_is_found(start_broker: StartBroker, key_file: Path) -> None:
    broker = await start_broker()
    port = broker.url.rpartition(":")[2]

    right = await examine("discovery: issuer", public_url=broker.url)
    wrong = await examine("discovery: issuer", public_url=f"http://localhost:{port}")

    assert [outcome(right), outcome(wrong)] == [OK, FAILED]
    assert f"the issuer is {broker.url}, " in wrong.detail


async def test_other_key_file_is_found(broker: RunningBroker, key_file: Path, call: Call) -> None:
    right = await examine("discovery: key set", public_url=broker.url, key_file=key_file)
    await asyncio.to_thread(call, "key", "create")

    wrong = await examine("discovery: key set", public_url=broker.url)

    assert [outcome(right), outcome(wrong)] == [OK, FAILED]
