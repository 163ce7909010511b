"""Runs the installed package for Python: a JSON command a line, a JSON answer a line.

    {"make": "Verifier" | "AsyncVerifier" | "Webhook" | "Broker", …its arguments}
    {"do": "verify", "tokens": […], "now": seconds}     concurrently
    {"do": "spend", "tokens": […], "now": seconds}      in order
    {"do": "parse", "headers": {…}, "body": "…"}
    {"do": "sessions.open", "arguments": {…}}

An answer is `{"done": …}` or `{"error": the name of the class, "status": …}`.
"""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any

import scan_login_client as package

Fields = dict[str, Any]
"""A JSON object: a command or an answer."""

loop = asyncio.new_event_loop()
pool = ThreadPoolExecutor(8)
made: dict[str, Any] = {}
now = 0.0


def fields(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def outcome(act: Callable[..., object], *arguments: object) -> Fields:
    try:
        return {"done": fields(act(*arguments))}
    except package.ScanLoginError as error:
        return failure(error)


def failure(error: package.ScanLoginError) -> Fields:
    return {"error": type(error).__name__, "status": error.status, "text": str(error)}


def make(command: Fields) -> Fields:
    kind = command.pop("make")
    if kind in ("Verifier", "AsyncVerifier"):
        clocks = {"clock": lambda: now, "monotonic": lambda: now}
        made["Verifier"] = getattr(package, kind)(**command, **clocks)
        made["SpentTokens"] = package.SpentTokens(clock=clocks["clock"])
    else:
        made[kind] = getattr(package, kind)(**command)
    return {"done": None}


async def gather(tokens: list[str]) -> list[Fields]:
    async def one(token: str) -> Fields:
        try:
            return {"done": fields(await made["Verifier"].verify(token))}
        except package.ScanLoginError as error:
            return failure(error)

    return await asyncio.gather(*map(one, tokens))


def verify(tokens: list[str]) -> list[Fields]:
    if isinstance(made["Verifier"], package.AsyncVerifier):
        return loop.run_until_complete(gather(tokens))
    return list(pool.map(lambda token: outcome(made["Verifier"].verify, token), tokens))


def spend(tokens: list[str]) -> Iterator[Fields]:
    for token in tokens:
        [verified] = verify([token])
        if "error" in verified:
            yield verified
        else:
            yield outcome(made["SpentTokens"].spend, package.Claims(**verified["done"]))


def parse(command: Fields) -> Fields:
    webhook = made["Webhook"]
    try:
        event = webhook.parse(command["headers"], command["body"].encode())
    except package.ScanLoginError as error:
        return failure(error)
    is_repeat = webhook.answer_to(event) is not None
    webhook.remember(event, {})
    return {"done": {**fields(event), "type": event.type}, "repeat": is_repeat}


def run(command: Fields) -> Any:
    global now
    if "make" in command:
        return make(command)
    now = command.get("now", now)
    if command["do"] == "verify":
        return verify(command["tokens"])
    if command["do"] == "spend":
        return list(spend(command["tokens"]))
    if command["do"] == "parse":
        return parse(command)
    call = attrgetter(command["do"])(made["Broker"])
    return outcome(lambda: call(**command["arguments"]))


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
