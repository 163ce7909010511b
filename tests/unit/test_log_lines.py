"""Log lines in JSON: text that people read, and characters that a terminal interprets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.infrastructure.observability.log_lines import (
    SECRET_FIELDS,
    Timestamps,
    general_line,
    json_line,
    plain_line,
)


class State(StrEnum):
    CONFIRMED = "confirmed"


NAMES = st.text() | st.sampled_from(sorted(SECRET_FIELDS)) | st.just("level")

VALUES = (
    st.text()
    | st.text(st.characters(max_codepoint=0x7F))
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.floats(-1, 1)
    | st.sampled_from([None, True, False, State.CONFIRMED, b"x", {"a": 1}, [1.5, "é"], (), object])
    | st.datetimes()
)


@example({"tiny": 9e-05, "none": 0.0})
@example({"large": 1e16})
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_fast_line_equals_line_of_general_path(event: dict[str, Any]) -> None:
    assert json_line(None, "info", dict(event)) == general_line(None, "info", dict(event))


def test_line_of_an_exception_contains_the_traceback() -> None:
    event = {"event": "x", "exc_info": ValueError("wrong"), "level": "error"}

    assert "ValueError: wrong" in json.loads(json_line(None, "error", event))["exception"]


def test_line_of_finished_login_takes_the_fast_path() -> None:
    event = {"app": "shop", "seconds": 7.5, "event": "login finished", "match": None, "count": 1}

    assert plain_line(event) == json.dumps(event)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_timestamp_is_in_iso_8601(moment: datetime) -> None:
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    clock = iter([since // timedelta(microseconds=1) * 1000 + 999] * 2)
    stamp = Timestamps(lambda: next(clock))

    texts = {stamp(None, "info", {})["timestamp"] for _ in range(2)}

    assert texts == {f"{moment.isoformat()}Z"}


def line_of(text: str) -> str:
    return str(json_line(None, "info", {"event": "x", "reason": text}))


@pytest.mark.parametrize("text", ["choose another with PORT=…", "小明", "café 🙂"])
def test_text_beyond_ascii_is_readable(text: str) -> None:
    assert text in line_of(text)


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x9b2J", "a\nb", "\x85", "\u2028", "\u202e", "\x7f", "\U000e0001", "\udc80"],
)
def test_character_that_terminals_interpret_is_escaped(text: str) -> None:
    line = line_of(text)

    assert line.isprintable()
    assert json.loads(line)["reason"] == text
