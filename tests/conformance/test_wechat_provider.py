"""The provider wechat, against the pretend WeChat: one call at a time, and what goes wrong."""

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
from broker.providers.wechat.endpoints import FetchedToken
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

pytestmark = pytest.mark.usefixtures("patient_provider")


@pytest.fixture
async def wechat() -> AsyncIterator[Pretending]:
    async with pretending() as wechat:
        yield wechat


@pytest.fixture
async def provider(wechat: Pretending) -> AsyncIterator[WeChatProvider]:
    async with provider_at(wechat.url) as provider:
        yield provider


def counted(api: str, errcode: str) -> float:
    labels = {"api": api, "errcode": errcode}
    return REGISTRY.get_sample_value("scanlogin_wechat_requests_total", labels) or 0


async def failure(provider: WeChatProvider, api: str, wechat: Pretending) -> BrokerError:
    """What `draw` or `identify` raises."""
    js_code = wechat.wechat.platform.login("alice")
    asked = provider.identify(js_code) if api == IDENTIFY else provider.draw("scene")
    with pytest.raises(BrokerError) as failed:
        await asked
    return failed.value


async def test_a_code_carries_page_and_scene(provider: WeChatProvider) -> None:
    picture = await provider.draw("s-_1" * 8)

    assert picture.media_type == "image/png"
    assert seen_in(picture.content) == {"page": PAGE, "scene": "s-_1" * 8}


async def test_page_version_and_width_are_what_was_set(wechat: Pretending) -> None:
    look = {"page": "pages/new", "check_path": False, "env_version": "trial", "width": 280}
    async with provider_at(wechat.url, **look) as provider:
        picture = await provider.draw("scene")

    assert seen_in(picture.content)["page"] == "pages/new"
    assert Image.open(io.BytesIO(picture.content)).width <= 280


async def test_a_js_code_proves_who_holds_the_phone(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    proof = await provider.identify(wechat.wechat.platform.login("alice"))

    assert proof.identity == Identity("wechat", person_id(APPID, "alice"))
    assert proof.identity.provider_app_id == APPID
    assert proof.identity.unionid == person_id("", "alice")
    assert proof.session_key is not None
    assert len(proof.session_key.reveal()) == 24


async def test_a_session_key_is_shown_by_nothing_and_written_down_nowhere() -> None:
    sealed = SecretText("hunter2")

    assert "hunter2" not in f"{sealed} {sealed!r} {vars(SecretText)}"
    with pytest.raises(TypeError):
        pickle.dumps(sealed)


@pytest.mark.parametrize("js_code", ["", "a b", "码", "\ud800", "x" * 257, "a\n"])
async def test_what_cannot_be_a_js_code_is_not_sent(
    provider: WeChatProvider, wechat: Pretending, js_code: str
) -> None:
    with pytest.raises(InvalidProof):
        await provider.identify(js_code)
    assert wechat.wechat.calls[IDENTIFY] == 0


# The access token


async def test_many_who_begin_at_once_ask_for_one_token(wechat: Pretending) -> None:
    wechat.wechat.faults.set(TOKEN, "slow", 1)
    async with provider_at(wechat.url) as provider:
        await asyncio.gather(*(provider.draw(f"scene-{number}") for number in range(20)))

    assert wechat.wechat.calls == {TOKEN: 1, DRAW: 20}


async def test_a_token_that_ends_early_heals_by_itself(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    await provider.draw("scene")
    wechat.wechat.platform.revoke(APPID)

    await asyncio.gather(*(provider.draw(f"scene-{number}") for number in range(20)))

    assert wechat.wechat.calls[TOKEN] == 2


@pytest.mark.parametrize("errcode", ["40001", "40014", "42001"])
async def test_a_refused_token_is_fetched_again_once(
    provider: WeChatProvider, wechat: Pretending, errcode: str
) -> None:
    wechat.wechat.faults.set(DRAW, errcode, 1)
    assert await provider.draw("scene")
    assert wechat.wechat.calls == {TOKEN: 2, DRAW: 2}

    wechat.wechat.faults.set(DRAW, errcode)
    assert isinstance(await failure(provider, DRAW, wechat), ProviderUnavailable)
    assert wechat.wechat.calls == {TOKEN: 3, DRAW: 4}


class Tokens:
    """Gives token after token, each good for 2 hours; broken, it gives none."""

    def __init__(self) -> None:
        self.issued = 0
        self.broken = False

    async def __call__(self) -> FetchedToken:
        self.issued += 1
        await asyncio.sleep(0)
        if self.broken:
            raise ProviderUnavailable("no token", 2)
        return FetchedToken(f"token-{self.issued}", 7200)


async def renewed(*accesses: AccessTokenCache) -> None:
    """Wait until a renewal that is under way is over."""
    await asyncio.wait([one._refreshing for one in accesses if one._refreshing is not None])


async def test_a_token_is_renewed_early_while_it_still_serves(clock: Clock) -> None:
    tokens = Tokens()
    access = AccessTokenCache(tokens, clock=clock)
    assert await access.get() == "token-1"

    clock.time += 7200 - REFRESH_FROM - 1
    assert (await access.get(), tokens.issued) == ("token-1", 1)
    clock.time += REFRESH_FROM - REFRESH_UNTIL + 1
    assert await access.get() == "token-1"
    await renewed(access)

    assert (await access.get(), tokens.issued) == ("token-2", 2)


async def test_instances_that_began_together_do_not_renew_together(clock: Clock) -> None:
    tokens = [Tokens() for _ in range(40)]
    accesses = [AccessTokenCache(one, clock=clock) for one in tokens]
    await asyncio.gather(*(access.get() for access in accesses))

    clock.time += 7200 - (REFRESH_FROM + REFRESH_UNTIL) / 2
    await asyncio.gather(*(access.get() for access in accesses))
    await renewed(*accesses)

    assert 0 < sum(one.issued == 2 for one in tokens) < 40


async def test_a_token_that_cannot_be_renewed_serves_to_its_end(clock: Clock) -> None:
    tokens = Tokens()
    access = AccessTokenCache(tokens, clock=clock)
    await access.get()
    tokens.broken = True
    clock.time += 7200 - REFRESH_UNTIL

    for _ in range(3):
        assert await access.get() == "token-1"
        await renewed(access)
    assert tokens.issued == 2
    clock.time += REFRESH_RETRY_DELAY
    assert await access.get() == "token-1"
    await renewed(access)
    assert tokens.issued == 3
    clock.time += REFRESH_UNTIL
    with pytest.raises(ProviderUnavailable):
        await access.get()


async def test_who_stops_waiting_leaves_the_others_their_token() -> None:
    access = AccessTokenCache(Tokens())
    waiting = [asyncio.create_task(access.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()

    assert await asyncio.gather(*waiting[1:]) == ["token-1", "token-1"]
    await access.close()


def test_a_token_is_renewed_when_wechat_gives_another() -> None:
    assert 0 < REFRESH_UNTIL < REFRESH_FROM < TOKEN_OVERLAP


async def test_a_wrong_secret_is_noticed_before_anybody_logs_in(wechat: Pretending) -> None:
    before = counted(TOKEN, "40125")
    async with provider_at(wechat.url, secret="canary-wrong"):
        await eventually(lambda: counted(TOKEN, "40125") > before)


async def test_a_token_that_is_closed_is_fetched_no_longer() -> None:
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
async def test_what_passes_is_asked_for_again(wechat: Pretending, api: str, fault: str) -> None:
    wechat.wechat.faults.set(api, fault, 1)
    async with provider_at(wechat.url) as provider:
        assert seen_in((await provider.draw("scene")).content)["scene"] == "scene"

    assert wechat.wechat.calls[api] == 2


async def test_a_js_code_is_repeated_only_where_wechat_has_not_taken_it(
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


async def test_slow_is_not_too_slow(provider: WeChatProvider, wechat: Pretending) -> None:
    for api in (DRAW, IDENTIFY):
        wechat.wechat.faults.set(api, "slow")
    assert await provider.draw("scene")
    assert await provider.identify(wechat.wechat.platform.login("alice"))


async def test_who_is_silent_is_given_up_in_time(
    wechat: Pretending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wechat_api, "RESPONSE_TIMEOUT", 0.2)
    for api in (DRAW, IDENTIFY):
        wechat.wechat.faults.set(api, "hang")
    async with provider_at(wechat.url) as provider, asyncio.timeout(30):
        failures = [await failure(provider, api, wechat) for api in (DRAW, IDENTIFY)]

    assert all(isinstance(one, ProviderUnavailable) for one in failures)
    # WeChat may have taken the js_code.
    assert (wechat.wechat.calls[DRAW], wechat.wechat.calls[IDENTIFY]) == (3, 1)


@pytest.mark.parametrize("api", [DRAW, IDENTIFY])
async def test_nobody_waits_longer_than_a_phone_does(
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
async def test_an_errcode_is_counted_and_comes_out_in_our_words(
    wechat: Pretending, api: str, errcode: str, kind: type[BrokerError], retry_after: int | None
) -> None:
    wechat.wechat.faults.set(api, errcode)
    before = counted(api, errcode)
    async with provider_at(wechat.url) as provider:
        failed = await failure(provider, api, wechat)

    assert type(failed) is kind
    assert failed.retry_after == retry_after
    assert counted(api, errcode) > before
    assert errcode not in str(failed.body())
    assert "rid" not in str(failed.body())
    if isinstance(failed, ProviderUnavailable):
        assert f"{api} failed with {errcode}" in failed.reason
        assert lookup_error(api, errcode).advice in failed.reason


async def test_nobody_there(wechat: Pretending) -> None:
    before = counted(IDENTIFY, "unreachable")
    async with provider_at("http://127.0.0.1:1") as provider:
        failed = await failure(provider, IDENTIFY, wechat)

    assert isinstance(failed, ProviderUnavailable)
    assert counted(IDENTIFY, "unreachable") == before + 3


@pytest.mark.parametrize("errcode", ERRMSGS)
def test_every_errcode_that_the_pretend_wechat_may_say_has_a_cure(errcode: int) -> None:
    assert str(errcode) in MEANINGS


def test_an_errcode_may_mean_something_else_at_another_api() -> None:
    assert lookup_error(DRAW, "40001").kind is ErrorKind.TOKEN
    assert lookup_error(TOKEN, "40001").kind is ErrorKind.OPERATOR
    assert lookup_error(DRAW, "45011").kind is ErrorKind.QUOTA


# The breaker and the limit


def test_a_phone_that_is_told_to_wait_finds_the_breaker_closed() -> None:
    assert RETRY_AFTER[ErrorKind.PAUSE] >= RESET_TIMEOUT


async def test_a_call_that_fails_stops_no_other(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    wechat.wechat.faults.set(DRAW, "41030")
    for _ in range(2 * FAILURE_THRESHOLD):
        await failure(provider, DRAW, wechat)

    assert wechat.wechat.calls[DRAW] == FAILURE_THRESHOLD
    assert await provider.identify(wechat.wechat.platform.login("alice"))


async def test_people_who_are_turned_away_open_no_breaker(
    provider: WeChatProvider, wechat: Pretending
) -> None:
    for _ in range(2 * FAILURE_THRESHOLD):
        with pytest.raises(InvalidProof):
            await provider.identify("none")

    assert await provider.identify(wechat.wechat.platform.login("alice"))


async def test_more_codes_than_a_process_may_draw_are_refused_at_once(
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


# Answers that are none of WeChat's


def jpeg() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (430, 430)).save(picture, "JPEG")
    return picture.getvalue()


async def drawn_by(odd: Odd) -> object:
    """The media type of the picture, or what the operator is told."""
    site = Site("odd", odd.application(), "127.0.0.1", 0, "PORT")
    async with serve_sites([site]) as addresses, provider_at(addresses["odd"]) as provider:
        try:
            return (await provider.draw("canary-scene")).media_type
        except ProviderUnavailable as failed:
            return failed.reason


async def test_a_jpeg_is_what_wechat_really_draws() -> None:
    assert await drawn_by(Odd(jpeg(), "image/jpeg")) == "image/jpeg"


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
async def test_what_is_no_picture_is_an_error(odd: Odd, outcome: str) -> None:
    assert f"{DRAW} failed with {outcome}" in str(await drawn_by(odd))
    assert set(odd.asked) == {f"/wxa/{DRAW}"}


async def test_what_wechat_repeats_of_our_secrets_is_cut_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo = b'{"errcode":40097,"errmsg":"args canary-token canary-scene\\n rid: 0123abcd-1-2"}'

    reason = str(await drawn_by(Odd(echo, "application/json")))

    assert "canary" not in reason + capsys.readouterr().out
    assert "args [hidden] [hidden]" in reason
    assert "rid: 0123abcd-1-2" in reason


async def test_a_person_without_an_openid_is_nobody() -> None:
    for answer in (b"{}", b'{"openid":"","session_key":"x"}', b'{"openid":7,"session_key":"x"}'):
        site = Site("odd", Odd(answer, "text/plain").application(), "127.0.0.1", 0, "PORT")
        async with serve_sites([site]) as addresses, provider_at(addresses["odd"]) as provider:
            with pytest.raises(ProviderUnavailable, match="provider is unavailable"):
                await provider.identify("some-js-code")


def test_the_secret_is_in_no_repr() -> None:
    assert SECRET not in repr(provider_of("https://api.weixin.qq.com"))
