"""The tables and the JSON of the commands."""

from __future__ import annotations

import json

import pytest

from broker.cli.output import Columns, Item, field, print_item, print_list, text, time_of

COLUMNS: Columns = {"name": field("name"), "at": time_of("at"), "open": field("open")}

ITEMS: list[Item] = [
    {"name": "a shop", "at": 1_700_000_000.0, "open": True},
    {"name": "微信", "at": None, "open": False},
]


def test_table_has_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(ITEMS, COLUMNS, as_json=False)

    assert capsys.readouterr().out.splitlines() == [
        "NAME    AT                    OPEN",
        "a shop  2023-11-14 22:13:20Z  yes",
        "微信    -                     no",
    ]


def test_json_has_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(ITEMS, {"name": field("name")}, as_json=True)

    assert json.loads(capsys.readouterr().out) == ITEMS


def test_empty_list_prints_its_note(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([], COLUMNS, as_json=False, empty_note="no shop is open")

    assert capsys.readouterr().out == "no shop is open\n"


def test_item_omits_fields_without_value(capsys: pytest.CaptureFixture[str]) -> None:
    item: Item = {"id": "shop", "origins": [], "url": None, "changed_at": 0.0, "count": 0}

    print_item(item, as_json=False, times=["changed_at"])

    assert capsys.readouterr().out.splitlines() == [
        "id          shop",
        "changed_at  1970-01-01 00:00:00Z",
        "count       0",
    ]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert text("a\x1b[2Jb\nc") == "a�[2Jb�c"
