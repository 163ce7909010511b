"""Tests of the provider wechat against the WeChat simulator: single calls and faults."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from broker.errors import BrokerError
from broker.identity.errors import (
    InvalidPhoneNumberCode,
    InvalidProof,
    ProviderBlockedUser,
    ProviderRateLimited,
    ProviderUnavailable,
)
from broker.identity.model import Identity
from broker.identity.ports import SecretText
from broker.infrastructure.outbound.circuit_breaker import FAILURE_THRESHOLD, RESET_TIMEOUT
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.providers.wechat import client as wechat_api
from broker.providers.wechat import provider as wechat_provider
from broker.providers.wechat.access_token import (
    REFRESH_FROM,
    REFRESH_RETRY_DELAY,
    REFRESH_UNTIL,
    AccessTokenCache,
)
from broker.providers.wechat.endpoints import (
    FetchedToken,
    RequestFailed,
    WeChatResponse,
    parse_phone_number,
)
from broker.providers.wechat.errcodes import MEANINGS, RETRY_AFTER, ErrorKind, lookup_error
from broker.providers.wechat.provider import WeChatProvider
from mp_stub.wechat.platform import ERRMSGS, TOKEN_OVERLAP, person_id
from tests.support.builders import Clock
from tests.support.waiting import eventually
from tests.support.wechat import (
    APPID,
    DRAW,
    IDENTIFY,
    PAGE,
    SECRET,
    TOKEN,
    Odd,
    Pretending,
    pretending,
    provider_at,
    provider_of,
    seen_in,
)

ALICE = Identity("wechat", person_id(APPID, "alice"), None, APPID)

PHONE_NUMBER = "getuserphonenumber"

pytestmark = pytest.mark.usefixtures("long_wechat_timeouts")


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


@pytest.fixture
async def provider(wechat: Pretending) -> AsyncIterator[WeChatProvider]:
    async with provider_at(wechat.url) as provider:
        yield provider


def request_count(api: str, errcode: str) -> float:
    labels = {"api": api, "errcode": errcode}
    return REGISTRY.get_sample_value("scanlogin_wechat_requests_total", labels) or 0


async def failure(provider: WeChatProvider, api: str, wechat: Pretending) -> BrokerError:
    """Return the error that `draw` or `identify` raises."""
    js_code = wechat.wechat.platform.login("alice")
    call = provider.identify(js_code) if api == IDENTIFY else provider.draw("scene")
    with pytest.raises(BrokerError) as failed:
        await call
    return failed.value


async def test_code_has_page_and_scene(provider: WeChatProvider) -> None:
    picture = await provider.draw("s-_1" * 8)

    assert picture.media_type == "image/png"
    assert seen_in(picture.content) == {"page": PAGE, "scene": "s-_1" * 8}


async def test_code_has_the_configured_page_and_width(wechat: Pretending) -> None:
    look = {"page": "pages/new", "check_path": False, "env_version": "trial", "width": 280}
    async with provider_at(wechat.url, **look) as provider:
        picture = await provider.draw("scene")

    assert seen_in(picture.content)["page"] == "pages/new"
    assert Image.open(io.BytesIO(picture.content)).width <= 280


async def test_js_code_returns_the_identity(provider: WeChatProvider, wechat: Pretending) -> None:
    identification = await provider.identify(wechat.wechat.platform.login("alice"))

    assert identification.identity == Identity("wechat", person_id(APPID, "alice"))
    assert identification.identity.provider_app_id == APPID
    assert identification.identity.unionid == person_id("", "alice")
    assert identification.session_key is not None
    assert len(identification.session_key.reveal()) == 24


@pytest.mark.parametrize(("country", "number"), [("86", "13800138000"), ("1", "2125550123")])
async def test_phone_number_has_its_country_code(
    provider: WeChatProvider, wechat: Pretending, country: str, number: str
) -> None:
    code = wechat.wechat.platform.tap_phone_number("alice", number, country)

    assert await provider.phone_number(code, ALICE) == f"+{country}{number}"


async def test_code_for_phone_number_works_once(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    code = wechat.wechat.platform.tap_phone_number("alice", "13800138000")
    await provider.phone_number(code, ALICE)

    with pytest.raises(InvalidPhoneNumberCode):
        await provider.phone_number(code, ALICE)


async def test_phone_number_of_another_person_is_refused(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    code = wechat.wechat.platform.tap_phone_number("bob", "13800138000")

    with pytest.raises(InvalidPhoneNumberCode):
        await provider.phone_number(code, ALICE)


@pytest.mark.parametrize("code", ["", "x" * 257, "a b", "€"])
async def test_malformed_phone_number_code_is_not_sent(
    provider: WeChatProvider, wechat: Pretending, code: str
) -> None:
    with pytest.raises(InvalidPhoneNumberCode):
        await provider.phone_number(code, ALICE)

    assert wechat.wechat.calls[PHONE_NUMBER] == 0


async def test_revoked_token_is_replaced_for_phone_number(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    platform = wechat.wechat.platform
    await provider.phone_number(platform.tap_phone_number("alice", "13800138000"), ALICE)
    platform.revoke(APPID)

    code = platform.tap_phone_number("alice", "13900139000")

    assert await provider.phone_number(code, ALICE) == "+8613900139000"


@pytest.mark.parametrize(
    "info",
    ["null", "{}", '{"countryCode": "86"}', '{"countryCode": "0", "purePhoneNumber": "138000"}'],
)
def test_response_without_phone_number_is_refused(info: str) -> None:
    content = f'{{"errcode": 0, "phone_info": {info}}}'.encode()

    with pytest.raises(RequestFailed, match="unreadable"):
        parse_phone_number(WeChatResponse("application/json", content))


async def test_session_key_is_neither_printed_nor_pickled() -> None:
    secret = SecretText("hunter2")

    assert "hunter2" not in f"{secret} {secret!r} {vars(SecretText)}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize("js_code", ["", "a b", "码", "\ud800", "x" * 257, "a\n"])
async def test_malformed_js_code_is_not_sent(
    provider: WeChatProvider, wechat: Pretending, js_code: str
) -> None:
    with pytest.raises(InvalidProof):
        await provider.identify(js_code)
    assert wechat.wechat.calls[IDENTIFY] == 0


# The access token


async def test_simultaneous_draws_fetch_one_token(wechat: Pretending) -> None:
    wechat.wechat.faults.set(TOKEN, "slow", 1)
    async with provider_at(wechat.url) as provider:
        await asyncio.gather(*(provider.draw(f"scene-{number}") for number in range(20)))

    assert wechat.wechat.calls == {TOKEN: 1, DRAW: 20}


async def test_revoked_token_is_replaced(provider: WeChatProvider, wechat: Pretending) -> None:
    await provider.draw("scene")
    wechat.wechat.platform.revoke(APPID)

    await asyncio.gather(*(provider.draw(f"scene-{number}") for number in range(20)))

    assert wechat.wechat.calls[TOKEN] == 2


@pytest.mark.parametrize("errcode", ["40001", "40014", "42001"])
async def test_refused_token_is_replaced_once(
    provider: WeChatProvider, wechat: Pretending, errcode: str
) -> None:
    wechat.wechat.faults.set(DRAW, errcode, 1)
    assert await provider.draw("scene")
    assert wechat.wechat.calls == {TOKEN: 2, DRAW: 2}

    wechat.wechat.faults.set(DRAW, errcode)
    assert isinstance(await failure(provider, DRAW, wechat), ProviderUnavailable)
    assert wechat.wechat.calls == {TOKEN: 3, DRAW: 4}


class TokenSource:
    """Issues a new token for each call, valid for 2 hours; none if `broken`."""

    def __init__(self) -> None:
        self.issued = 0
        self.broken = False

    async def __call__(self) -> FetchedToken:
        self.issued += 1
        await asyncio.sleep(0)
        if self.broken:
            raise ProviderUnavailable("no token", 2)
        return FetchedToken(f"token-{self.issued}", 7200)


async def wait_for_refresh(*accesses: AccessTokenCache) -> None:
    """Wait until refreshes in progress have ended."""
    await asyncio.wait([one._refreshing for one in accesses if one._refreshing is not None])


async def test_token_is_refreshed_before_its_expiry(clock: Clock) -> None:
    tokens = TokenSource()
    access = AccessTokenCache(tokens, clock=clock)
    assert await access.get() == "token-1"

    clock.time += 7200 - REFRESH_FROM - 1
    assert (await access.get(), tokens.issued) == ("token-1", 1)
    clock.time += REFRESH_FROM - REFRESH_UNTIL + 1
    assert await access.get() == "token-1"
    await wait_for_refresh(access)

    assert (await access.get(), tokens.issued) == ("token-2", 2)


async def test_instances_refresh_their_tokens_at_different_times(clock: Clock) -> None:
    tokens = [TokenSource() for _ in range(40)]
    accesses = [AccessTokenCache(one, clock=clock) for one in tokens]
    await asyncio.gather(*(access.get() for access in accesses))

    clock.time += 7200 - (REFRESH_FROM + REFRESH_UNTIL) / 2
    await asyncio.gather(*(access.get() for access in accesses))
    await wait_for_refresh(*accesses)

    assert 0 < sum(one.issued == 2 for one in tokens) < 40


async def test_token_is_used_until_expiry_if_refresh_fails(clock: Clock) -> None:
    tokens = TokenSource()
    access = AccessTokenCache(tokens, clock=clock)
    await access.get()
    tokens.broken = True
    clock.time += 7200 - REFRESH_UNTIL

    for _ in range(3):
        assert await access.get() == "token-1"
        await wait_for_refresh(access)
    assert tokens.issued == 2
    clock.time += REFRESH_RETRY_DELAY
    assert await access.get() == "token-1"
    await wait_for_refresh(access)
    assert tokens.issued == 3
    clock.time += REFRESH_UNTIL
    with pytest.raises(ProviderUnavailable):
        await access.get()


async def test_cancelled_caller_does_not_cancel_the_fetch() -> None:
    access = AccessTokenCache(TokenSource())
    waiting = [asyncio.create_task(access.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()

    assert await asyncio.gather(*waiting[1:]) == ["token-1", "token-1"]
    await access.close()


def test_refresh_window_is_within_the_token_overlap() -> None:
    assert 0 < REFRESH_UNTIL < REFRESH_FROM < TOKEN_OVERLAP


async def test_wrong_secret_is_detected_at_startup(wechat: Pretending) -> None:
    before = request_count(TOKEN, "40125")
    async with provider_at(wechat.url, secret="canary-wrong"):
        await eventually(lambda: request_count(TOKEN, "40125") > before)


async def test_close_cancels_a_refresh() -> None:
    async def never() -> FetchedToken:
        await asyncio.Event().wait()
        raise AssertionError

    access = AccessTokenCache(never)
    renewing = access.refresh()
    await access.close()

    assert renewing.cancelled()


# Faults


@pytest.mark.parametrize("api", [TOKEN, DRAW])
@pytest.mark.parametrize("fault", ["-1", "503", "html", "cut"])
async def test_temporary_fault_is_retried(wechat: Pretending, api: str, fault: str) -> None:
    wechat.wechat.faults.set(api, fault, 1)
    async with provider_at(wechat.url) as provider:
        assert seen_in((await provider.draw("scene")).content)["scene"] == "scene"

    assert wechat.wechat.calls[api] == 2


async def test_js_code_is_retried_only_if_certainly_unused(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    wechat.wechat.faults.set(IDENTIFY, "-1", 1)
    assert await provider.identify(wechat.wechat.platform.login("alice"))
    assert wechat.wechat.calls[IDENTIFY] == 2

    for fault in ("503", "html", "cut"):
        wechat.wechat.calls.clear()
        wechat.wechat.faults.set(IDENTIFY, fault, 1)
        assert isinstance(await failure(provider, IDENTIFY, wechat), ProviderUnavailable)
        assert wechat.wechat.calls[IDENTIFY] == 1


async def test_slow_response_is_accepted(provider: WeChatProvider, wechat: Pretending) -> None:
    for api in (DRAW, IDENTIFY):
        wechat.wechat.faults.set(api, "slow")
    assert await provider.draw("scene")
    assert await provider.identify(wechat.wechat.platform.login("alice"))


async def test_missing_response_is_a_temporary_failure(
    wechat: Pretending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wechat_api, "RESPONSE_TIMEOUT", 0.2)
    for api in (DRAW, IDENTIFY):
        wechat.wechat.faults.set(api, "hang")
    async with provider_at(wechat.url) as provider, asyncio.timeout(30):
        failures = [await failure(provider, api, wechat) for api in (DRAW, IDENTIFY)]

    assert all(isinstance(one, ProviderUnavailable) for one in failures)
    # WeChat may have used the js_code.
    assert (wechat.wechat.calls[DRAW], wechat.wechat.calls[IDENTIFY]) == (3, 1)


@pytest.mark.parametrize("api", [DRAW, IDENTIFY])
async def test_call_ends_after_the_total_timeout(
    provider: WeChatProvider, wechat: Pretending, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wechat_provider, "TOTAL_TIMEOUT", 0.2)
    wechat.wechat.faults.set(api, "slow")

    failed = await failure(provider, api, wechat)

    assert isinstance(failed, ProviderUnavailable)
    assert "no answer from WeChat within" in failed.reason


@pytest.mark.parametrize(
    ("api", "errcode", "kind", "retry_after"),
    [
        (IDENTIFY, "40029", InvalidProof, None),
        (IDENTIFY, "40163", InvalidProof, None),
        (IDENTIFY, "40226", ProviderBlockedUser, None),
        (IDENTIFY, "45011", ProviderRateLimited, 60),
        (IDENTIFY, "-1", ProviderUnavailable, 2),
        (IDENTIFY, "40125", ProviderUnavailable, 30),
        (IDENTIFY, "99999", ProviderUnavailable, 30),
        (DRAW, "45009", ProviderUnavailable, 60),
        (DRAW, "41030", ProviderUnavailable, 30),
        (DRAW, "-1", ProviderUnavailable, 2),
        (TOKEN, "40001", ProviderUnavailable, 30),
        (TOKEN, "40013", ProviderUnavailable, 30),
        (TOKEN, "40125", ProviderUnavailable, 30),
        (TOKEN, "40164", ProviderUnavailable, 30),
    ],
)
async def test_errcode_is_counted_and_hidden_from_clients(
    wechat: Pretending, api: str, errcode: str, kind: type[BrokerError], retry_after: int | None
) -> None:
    wechat.wechat.faults.set(api, errcode)
    before = request_count(api, errcode)
    async with provider_at(wechat.url) as provider:
        failed = await failure(provider, api, wechat)

    assert type(failed) is kind
    assert failed.retry_after == retry_after
    assert request_count(api, errcode) > before
    assert errcode not in str(failed.body())
    assert "rid" not in str(failed.body())
    if isinstance(failed, ProviderUnavailable):
        assert f"{api} failed with {errcode}" in failed.reason
        assert lookup_error(api, errcode).advice in failed.reason


async def test_unreachable_server_is_counted_and_retried(wechat: Pretending) -> None:
    before = request_count(IDENTIFY, "unreachable")
    async with provider_at("http://127.0.0.1:1") as provider:
        failed = await failure(provider, IDENTIFY, wechat)

    assert isinstance(failed, ProviderUnavailable)
    assert request_count(IDENTIFY, "unreachable") == before + 3


@pytest.mark.parametrize("errcode", ERRMSGS)
def test_every_errcode_of_the_simulator_is_known(errcode: int) -> None:
    assert str(errcode) in MEANINGS


def test_errcode_depends_on_the_api() -> None:
    assert lookup_error(DRAW, "40001").kind is ErrorKind.TOKEN
    assert lookup_error(TOKEN, "40001").kind is ErrorKind.OPERATOR
    assert lookup_error(DRAW, "45011").kind is ErrorKind.QUOTA


# Circuit breaker and rate limit


def test_retry_after_is_not_below_the_reset_timeout() -> None:
    assert RETRY_AFTER[ErrorKind.PAUSE] >= RESET_TIMEOUT


async def test_circuit_breaker_of_one_api_affects_no_other(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    wechat.wechat.faults.set(DRAW, "41030")
    for _ in range(2 * FAILURE_THRESHOLD):
        await failure(provider, DRAW, wechat)

    assert wechat.wechat.calls[DRAW] == FAILURE_THRESHOLD
    assert await provider.identify(wechat.wechat.platform.login("alice"))


async def test_invalid_js_codes_do_not_open_the_breaker(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    for _ in range(2 * FAILURE_THRESHOLD):
        with pytest.raises(InvalidProof):
            await provider.identify("none")

    assert await provider.identify(wechat.wechat.platform.login("alice"))


async def test_draws_over_the_limit_are_refused_at_once(
    wechat: Pretending,
) -> None:
    outcomes: Counter[str] = Counter()

    async def draw(provider: WeChatProvider) -> None:
        try:
            await provider.draw("scene")
            outcomes["drawn"] += 1
        except ProviderUnavailable as failed:
            outcomes[f"after {failed.retry_after}"] += 1

    async with provider_at(wechat.url, codes_per_minute=60) as provider:
        await asyncio.gather(*(draw(provider) for _ in range(10)))

    assert outcomes == {"drawn": 5, "after 5": 5}
    assert wechat.wechat.calls[DRAW] == 5


# Invalid responses


def jpeg() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (430, 430)).save(picture, "JPEG")
    return picture.getvalue()


async def result_of_draw(odd: Odd) -> object:
    """Return the media type of the picture, or the reason of the failure."""
    site = Site("odd", odd.application(), "127.0.0.1", 0, "PORT")
    async with serve_sites([site]) as addresses, provider_at(addresses["odd"]) as provider:
        try:
            return (await provider.draw("canary-scene")).media_type
        except ProviderUnavailable as failed:
            return failed.reason


async def test_jpeg_picture_is_accepted() -> None:
    assert await result_of_draw(Odd(jpeg(), "image/jpeg")) == "image/jpeg"


@pytest.mark.parametrize(
    ("odd", "outcome"),
    [
        (Odd(jpeg(), "text/html"), "unreadable"),
        (Odd(b"GIF89a", "image/gif"), "unreadable"),
        (Odd(b"<svg/>", "image/svg+xml"), "unreadable"),
        (Odd(b'{"errcode":41030,"errmsg":"x"}', "image/jpeg"), "41030"),
        (Odd(b'{"errcode":0}', "application/json"), "unreadable"),
        (Odd(b"[" * 5000, "application/json"), "unreadable"),
        (Odd(b'{"errcode":', "application/json"), "unreadable"),
        (Odd(jpeg() + bytes(200 * 1024), "image/jpeg"), "too-large"),
        (Odd(jpeg(), "image/jpeg", 404), "unreadable"),
        (Odd(b"", "image/jpeg", 302, Location="/elsewhere"), "unreadable"),
    ],
)
async def test_response_that_is_not_a_picture_is_refused(odd: Odd, outcome: str) -> None:
    assert f"{DRAW} failed with {outcome}" in str(await result_of_draw(odd))
    assert set(odd.asked) == {f"/wxa/{DRAW}"}


async def test_secrets_in_errmsg_are_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo = b'{"errcode":40097,"errmsg":"args canary-token canary-scene\\n rid: 0123abcd-1-2"}'

    reason = str(await result_of_draw(Odd(echo, "application/json")))

    assert "canary" not in reason + capsys.readouterr().out
    assert "args [hidden] [hidden]" in reason
    assert "rid: 0123abcd-1-2" in reason


async def test_response_without_openid_is_refused() -> None:
    for answer in (b"{}", b'{"openid":"","session_key":"x"}', b'{"openid":7,"session_key":"x"}'):
        site = Site("odd", Odd(answer, "text/plain").application(), "127.0.0.1", 0, "PORT")
        async with serve_sites([site]) as addresses, provider_at(addresses["odd"]) as provider:
            with pytest.raises(ProviderUnavailable, match="provider is unavailable"):
                await provider.identify("some-js-code")


def test_repr_of_the_provider_hides_the_secret() -> None:
    assert SECRET not in repr(provider_of("https://api.weixin.qq.com"))
