"""The chat page of the example site in Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from broker.identity.model import Identity, UserProfile
from mp_stub.phone import Phone
from tests.support.builders import FixedDirectory, StartBroker
from tests.support.chat import chatting
from tests.support.chat_page import (
    UNAVAILABLE_ADMISSION,
    chat_page,
    chat_stage,
    member,
    open_chat,
    say,
    texts,
)
from tests.support.pages import (
    CHAT_ROOM,
    NARROW,
    SCHEMES_BY_LANGUAGE,
    keep,
    open_page,
    scan,
    scene_on,
    serious_findings,
)

MARKUP = "<img src=x onerror=alert(1)>"


class MarkupDirectory(FixedDirectory):
    """A directory that knows everyone. The name is markup."""

    async def find(self, identity: Identity) -> UserProfile:
        return UserProfile(subject=f"pretend:{identity.id}", name=f"{MARKUP}{identity.id}")


async def test_people_sign_in_by_scan_and_talk(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await open_page(chromium, f"{stage.site}/chat")
        async with Phone(broker=stage.broker.url, name="alice") as phone:
            await phone.confirm((await phone.scan(await scene_on(alice)))["login_id"])
        bob = await chat_page(chromium, stage, "bob")
        await expect(member(alice, "bob").locator(".dot.on")).to_be_visible()

        await say(alice, "hello bob")
        await say(bob, "hello alice")

        for page in (alice, bob):
            await expect(texts(page)).to_have_text(["hello bob", "hello alice"])
        await expect(alice.locator(".message.own .text")).to_have_text(["hello bob"])
        await expect(bob.locator(".message:not(.own) .from")).to_contain_text("pretend:alice")


async def test_typing_is_shown_to_others(chromium: Browser, start_broker: StartBroker) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice")
        bob = await chat_page(chromium, stage, "bob")

        await bob.locator("#text").fill("a draft")

        await expect(alice.locator("#typing")).to_have_text("bob is typing…")
        await expect(bob.locator("#typing")).to_be_empty()
        await say(bob, "done")
        await expect(alice.locator("#typing")).to_be_empty()


async def test_lost_network_loses_no_message(chromium: Browser, start_broker: StartBroker) -> None:
    """A message that is written meanwhile is stored once."""
    async with chat_stage(start_broker) as stage, chatting(stage.broker.url, "carol") as carol:
        await carol.join(CHAT_ROOM)
        alice = await chat_page(chromium, stage, "alice")
        await say(alice, "before")
        await carol.push("chat-message")

        stage.proxy.cut()
        await expect(alice.locator("#status")).to_have_text("Connection lost, reconnecting…")
        await say(alice, "written offline")
        await expect(alice.locator(".pending .meta")).to_have_text("Sending…")
        await keep(alice, "chat-offline")
        for text in ("missed 1", "missed 2"):
            await carol.say(text, CHAT_ROOM)
        stage.proxy.restore()

        expected = ["before", "missed 1", "missed 2", "written offline"]
        await expect(texts(alice)).to_have_text(expected)
        await expect(alice.locator("#status")).to_be_empty()
        await expect(alice.locator(".unread + .message .text")).to_have_text("missed 1")
        assert await carol.texts(3) == expected[1:]


async def test_reload_continues_the_chat(chromium: Browser, start_broker: StartBroker) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice")
        await say(alice, "before")
        await expect(alice.locator(".pending")).to_have_count(0)

        await alice.reload()

        await expect(texts(alice)).to_have_text(["before"])
        await say(alice, "after")
        await expect(texts(alice)).to_have_text(["before", "after"])


async def test_new_tab_has_to_sign_in_again(chromium: Browser, start_broker: StartBroker) -> None:
    """The token is given once, and the secret that continues a chat stays in its tab."""
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice")

        tab = await alice.context.new_page()
        await tab.goto(f"{stage.site}/chat")

        await expect(tab.locator("#status")).to_have_text("You have to sign in again.")
        await tab.locator("#again button").click()
        await expect(tab.locator("scan-login")).to_be_visible()


async def test_report_on_the_phone_ends_the_chat(
    chromium: Browser, start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.chat.watch.WATCH_INTERVAL", 0.1)
    async with chat_stage(start_broker) as stage:
        alice = await open_page(chromium, f"{stage.site}/chat")
        phone = await scan(chromium, stage, alice)
        await phone.locator("#allow").click()
        await expect(member(alice, "alice")).to_be_attached()

        await phone.locator("#report").click()

        await expect(alice.locator("#status")).to_have_text("You have to sign in again.")


async def test_deleted_message_disappears_for_all(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice")
        bob = await chat_page(chromium, stage, "bob")
        await say(alice, "a slip")
        await expect(texts(bob)).to_have_text(["a slip"])
        await expect(bob.locator(".message button")).to_have_count(0)

        await alice.locator(".message button").click()

        for page in (alice, bob):
            await expect(texts(page)).to_have_text(["Message deleted"])


async def test_conversation_has_an_unread_count(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice")
        bob = await chat_page(chromium, stage, "bob")
        await member(bob, "alice").locator("button").click()
        await say(bob, "between us")
        await say(bob, "and again")

        entry = alice.locator("#rooms li", has_text="bob")
        await expect(entry.locator(".count")).to_have_text("2")
        await expect(texts(alice)).to_have_count(0)
        await entry.locator("button").click()
        await expect(texts(alice)).to_have_text(["between us", "and again"])
        await expect(alice.locator(".count:visible")).to_have_count(0)
        await say(alice, "yes")

        await expect(texts(bob)).to_have_text(["between us", "and again", "yes"])
        await expect(alice.locator(".message.own .meta")).to_contain_text("Read")


async def test_moderator_mutes_and_removes(chromium: Browser, start_broker: StartBroker) -> None:
    async with chat_stage(start_broker) as stage:
        mod = await chat_page(chromium, stage, "mod")
        bob = await chat_page(chromium, stage, "bob")
        await expect(bob.locator("#members .acts")).to_have_count(0)

        await member(mod, "bob").get_by_role("button", name="Mute").click()
        await expect(bob.locator("#status")).to_contain_text("muted you")
        await say(bob, "refused")
        await expect(bob.locator(".pending")).to_contain_text("Not sent")
        await member(mod, "bob").get_by_role("button", name="Remove").click()

        await expect(bob.locator("#status")).to_contain_text("removed you")
        await expect(bob.locator("#text")).to_be_disabled()
        await expect(member(mod, "bob").locator(".dot.off")).to_be_visible()
        await expect(texts(mod)).to_have_count(0)


async def test_refused_message_is_explained_in_chinese(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice", locale="zh-CN")
        written: list[str] = []
        alice.on("console", lambda line: written.append(line.text))

        await alice.locator("#text").evaluate("field => field.removeAttribute('maxlength')")
        await say(alice, "x" * 4_001)

        await expect(alice.locator(".pending .failure")).to_have_text("发送失败：出现错误")
        [line] = [text for text in written if text.startswith("chat: ")]
        assert line.startswith("chat: invalid_request: text: ")


async def test_unavailable_admission_is_not_shown_as_removal(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker, **UNAVAILABLE_ADMISSION) as stage:
        alice = await open_chat(chromium, stage, "alice")

        await expect(alice.locator("#status")).to_have_text(
            "The chat is not available: the chat is temporarily unavailable"
        )


async def test_markup_is_shown_as_text(chromium: Browser, start_broker: StartBroker) -> None:
    """The name is from the directory; the person types nickname and message."""
    async with (
        chat_stage(start_broker, MarkupDirectory()) as stage,
        chatting(stage.broker.url, "carol", nickname=MARKUP) as carol,
    ):
        await carol.join(CHAT_ROOM)
        alice = await chat_page(chromium, stage, "alice")
        alerts: list[str] = []
        alice.on("dialog", lambda dialog: alerts.append(dialog.message))

        await carol.say(MARKUP, CHAT_ROOM)
        await carol.ask("say", {"to": "pretend:alice", "id": "1", "text": MARKUP})

        await expect(texts(alice)).to_have_text([MARKUP])
        for person in (alice.locator(".message .from"), member(alice, "carol")):
            await expect(person.locator(".name")).to_have_text(f"{MARKUP}carol")
            await expect(person.locator(".nickname")).to_have_text(f"“{MARKUP}”")
            await expect(person.locator(".tag")).to_have_text("unverified")
        await expect(alice.locator("#rooms .name").nth(1)).to_have_text(f"{MARKUP}carol")
        assert await alice.locator("#chat img, #chat script").count() == 0
        assert alerts == []


async def test_nickname_is_shown_as_unverified(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice")

        await alice.locator("#nickname").fill("小艾")
        await alice.locator("#nickname").press("Enter")

        await expect(member(alice, "alice").locator(".nickname")).to_have_text("“小艾”")
        await expect(member(alice, "alice").locator(".tag").first).to_have_text("unverified")


async def test_scrolling_up_loads_earlier_messages(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with chat_stage(start_broker) as stage, chatting(stage.broker.url, "carol") as carol:
        await carol.join(CHAT_ROOM)
        for number in range(130):
            await carol.say(f"message {number}", CHAT_ROOM)
        alice = await chat_page(chromium, stage, "alice")
        await expect(texts(alice)).to_have_count(100)
        await expect(texts(alice).last).to_be_in_viewport()

        await alice.locator("#scroll").evaluate("list => { list.scrollTop = 0; }")

        await expect(texts(alice)).to_have_count(130)
        await expect(texts(alice).first).to_have_text("message 0")
        await expect(alice.locator("#earlier")).to_be_hidden()
        await expect(alice.get_by_text("message 30", exact=True)).to_be_in_viewport()
        await carol.say("the last", CHAT_ROOM)
        await expect(alice.locator("#latest")).to_have_text("1 new message ↓")
        await alice.locator("#latest").click()
        await expect(texts(alice).last).to_be_in_viewport()


async def test_narrow_page_works_by_keyboard(chromium: Browser, start_broker: StartBroker) -> None:
    async with chat_stage(start_broker) as stage:
        alice = await chat_page(chromium, stage, "alice", viewport=NARROW)
        bob = await chat_page(chromium, stage, "bob")
        await expect(member(alice, "bob")).to_be_attached()

        await alice.locator("#open-side").press("Enter")
        await member(alice, "bob").locator("button").press("Enter")
        await expect(alice.locator("#title")).to_have_text("bob")
        await expect(alice.locator("#text")).to_be_focused()
        await alice.keyboard.type("by keyboard")
        await alice.keyboard.press("Enter")

        await expect(bob.locator("#rooms .count")).to_have_text("1")
        await alice.locator("#open-side").press("Enter")
        await alice.keyboard.press("Escape")
        await expect(alice.locator("#open-side")).to_be_focused()


async def test_page_fits_every_screen_and_is_accessible(
    chromium: Browser, start_broker: StartBroker
) -> None:
    sizes = {"phone": (375, 740), "tablet": (768, 900), "wide": (1280, 800)}
    async with chat_stage(start_broker) as stage, chatting(stage.broker.url, "carol") as carol:
        await carol.join(CHAT_ROOM)
        mod = await chat_page(chromium, stage, "mod")
        await carol.say("A long message. " * 20 + "x" * 200, CHAT_ROOM)
        await say(mod, "三木聊天室")

        for language, schemes in SCHEMES_BY_LANGUAGE.items():
            await mod.goto(f"{stage.site}/chat?lang={language}")
            await expect(texts(mod)).to_have_count(2)
            for (size, (width, height)), scheme in zip(sizes.items(), schemes, strict=True):
                await mod.set_viewport_size({"width": width, "height": height})
                await mod.emulate_media(color_scheme=scheme)
                await keep(mod, f"chat-{language}-{size}-{scheme}")
                assert await serious_findings(mod) == [], (language, size, scheme)
                assert not await mod.evaluate(
                    "document.documentElement.scrollWidth > document.documentElement.clientWidth"
                    " || document.documentElement.scrollHeight > innerHeight"
                )
