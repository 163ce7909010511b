"""Each decision record has a date, a status and its sections, and the index lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.environment import ROOT

DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
INDEX = (DECISIONS / "README.md").read_text()

HEADER = re.compile(
    r"# (?P<title>.+)\n\n"
    r"- \*\*Date:\*\* (?P<date>\d{4}-\d{2}-\d{2})\n"
    r"- \*\*Status:\*\* (?P<status>Accepted|(?:Amended|Superseded) by \[\d{4}\]\([\w-]+\.md\))"
)
SECTIONS = re.compile(r"^## (.+)$", re.MULTILINE)
OPTIONAL_SECTIONS = {"Measurements", "Alternatives"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_decision_record_is_in_the_index(record: Path) -> None:
    header = HEADER.match(record.read_text())

    assert header, f"{record.name} lacks title, date or status"
    title, date, status = header.groups()
    row = f"| [{record.name[:4]}]({record.name}) | {title} | {date} | {status} |"
    assert row in INDEX.splitlines(), f"docs/decisions/README.md lacks:\n{row}"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_decision_record_has_its_sections(record: Path) -> None:
    sections = SECTIONS.findall(record.read_text())

    required = [name for name in sections if name not in OPTIONAL_SECTIONS]
    assert required == ["Context", "Decision", "Consequences"]


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = [int(record.name[:4]) for record in RECORDS]

    assert numbers == list(range(1, len(RECORDS) + 1))
