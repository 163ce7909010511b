"""Finds phrases in tracked text that the style of this project rules out.

    python -m tests.support.prose [--root FOLDER] [--summary] [PATH...]

prints each match as `file:line: [pattern] text → hint`, then a table per area.
The patterns are in prose.toml, the extraction of text in prose_text.py.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.support.prose_text import AREAS, EXCLUDED, Text, texts, words

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".toml")
CONTEXT = 40

LEADING = re.compile(r"(?:\\b|\(\?<![^()]*\))*")
"""Assertions at the start of a regex. Without them, `re` skips to a first letter, which is fast."""

ALLOWED: dict[tuple[str, str], str] = {
    ("broker/state/redis/leader_leases.py", "duty"): "part of a Redis key",
}
"""By file and phrase, in lower case: why the phrase stays. Such matches are not reported."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A phrase to avoid.

    draft: finds all that `regex` finds, and maybe more, but only in lower case.
    areas: areas of text that it is applied to.
    """

    id: str
    regex: re.Pattern[str]
    draft: re.Pattern[str]
    hint: str
    found: tuple[str, ...]
    passed: tuple[str, ...]
    areas: tuple[str, ...]


class Match(NamedTuple):
    path: str
    line: int
    area: str
    pattern: Pattern
    phrase: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        return self.path, self.phrase.lower()

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}"
        return f"{place}: [{self.pattern.id}] {self.text}  → {self.pattern.hint}"


@cache
def patterns() -> tuple[Pattern, ...]:
    return tuple(
        Pattern(
            id=row["id"],
            regex=re.compile(row["regex"], 0 if row.get("cased") else re.IGNORECASE),
            draft=re.compile(LEADING.sub("", row["regex"], count=1)),
            hint=row["hint"],
            found=tuple(row["found"]),
            passed=tuple(row["passed"]),
            areas=tuple(row.get("areas", AREAS)),
        )
        for row in tomllib.loads(TABLE.read_text())["pattern"]
    )


def tracked(root: Path, paths: Iterable[str] = ()) -> list[str]:
    """Tracked text files below `paths`, without the table of patterns."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--", *paths]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [name for name in names if name and (root / name).is_file()]
    return [name for name in files if not EXCLUDED.search(name) and not name.endswith(TABLE.name)]


def matches_in(path: str, found: Sequence[Text]) -> Iterator[Match]:
    lines = [(text, text.text.replace("\n", " ")) for text in found]
    lowered = [(text, line, line.lower()) for text, line in lines]
    for pattern in patterns():
        search = pattern.draft.search
        for text, line in [(text, line) for text, line, lower in lowered if search(lower)]:
            if text.area in pattern.areas:
                yield from matches_of(pattern, path, text, line)


def matches_of(pattern: Pattern, path: str, text: Text, line: str) -> Iterator[Match]:
    """The matches in `line`, the lines of `text` as one."""
    for match in pattern.regex.finditer(line):
        number = text.line + text.text.count("\n", 0, match.start())
        around = text.text[max(0, match.start() - CONTEXT) : match.end() + CONTEXT]
        yield Match(path, number, text.area, pattern, match[0], " ".join(around.split()))


class Report(NamedTuple):
    """allowed: the keys of `ALLOWED` that were found."""

    matches: list[Match]
    words: Counter[str]
    allowed: set[tuple[str, str]]

    def rate(self) -> float:
        """Matches per 1 000 words."""
        return per_thousand(len(self.matches), self.words.total())

    def table(self) -> str:
        """Words, matches and the rate per 1 000 words, for each area and for all."""
        counts = Counter(match.area for match in self.matches)
        rows = [(area, self.words[area], counts[area]) for area in AREAS]
        rows.append(("all", self.words.total(), counts.total()))
        head = f"{'area':<25}{'words':>8}{'matches':>9}{'per 1000':>10}"
        lines = [
            f"{area:<25}{total:>8}{count:>9}{per_thousand(count, total):>10.2f}"
            for area, total, count in rows
        ]
        return "\n".join([head, *lines])


def per_thousand(count: int, total: int) -> float:
    return 1000 * count / max(total, 1)


def report(paths: Iterable[str] = (), root: Path = ROOT) -> Report:
    found: list[Match] = []
    counted: Counter[str] = Counter()
    for path in tracked(root, paths):
        some = list(texts(path, (root / path).read_text(encoding="utf-8")))
        for text in some:
            counted[text.area] += words(text.text)
        found += matches_in(path, some)
    allowed = {match.key for match in found} & set(ALLOWED)
    rest = [match for match in found if match.key not in allowed]
    rest.sort(key=lambda match: (match.path, match.line))
    return Report(rest, counted, allowed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.prose")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files or folders; default: all")
    parser.add_argument("--root", type=Path, default=ROOT, help="a work tree of the project")
    parser.add_argument("--summary", action="store_true", help="counts per pattern, no matches")
    options = parser.parse_args()
    result = report(options.paths, options.root)
    if options.summary:
        for name, count in Counter(match.pattern.id for match in result.matches).most_common():
            print(f"{count:>6} {name}")
    else:
        print(*result.matches, sep="\n")
    print(result.table())


if __name__ == "__main__":
    main()
