"""Runs the examples of the documentation."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from tests.support.clients import Payload
from tests.support.environment import need


async def shell(lines: str, variables: dict[str, str]) -> list[Payload]:
    """Run shell commands and return the JSON objects that they print."""
    bash = await asyncio.create_subprocess_exec(
        *(need("bash"), "-c", lines),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await bash.communicate()
    text, decoder, answers = output.decode(), json.JSONDecoder(), []
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer)
        text = text[end:]
    return answers


def structure(answer: Any) -> Any:
    """Return the names in a response without the values."""
    if isinstance(answer, dict):
        return {name: structure(value) for name, value in answer.items()}
    return [structure(one) for one in answer] if isinstance(answer, list) else 0
