"""The chat page of the mini program. miniprogram/chat.test.js has the tests."""

from __future__ import annotations

import asyncio

from playwright.async_api import Browser, expect

from tests.support.builders import StartBroker
from tests.support.chat_page import (
    UNAVAILABLE_ADMISSION,
    chat_page,
    chat_stage,
    say,
    texts,
)
from tests.support.miniprogram import run_suite


async def test_chat_suite_passes(chromium: Browser, start_broker: StartBroker) -> None:
    """The first test of the suite talks with the web page."""
    closed = await start_broker(**UNAVAILABLE_ADMISSION)
    async with chat_stage(start_broker) as stage:
        web = await chat_page(chromium, stage, "web")
        urls = {"BROKER": stage.broker.url, "CLOSED_BROKER": closed.url}
        suite = asyncio.create_task(run_suite("chat", **urls))
        await expect(texts(web)).to_have_text(["hello from the phone"], timeout=60_000)
        await say(web, "hello from the web")
        await suite
