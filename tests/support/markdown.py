"""Markdown pages: headings, links, tables, code blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

PARSER = MarkdownIt("commonmark").enable("table")
COMMENT = re.compile(r"(^|\s)(#|//|<!--).*$", re.MULTILINE)


class Heading(NamedTuple):
    level: int
    text: str


class CodeBlock(NamedTuple):
    language: str
    text: str

    def without_comments(self) -> CodeBlock:
        return CodeBlock(self.language, COMMENT.sub("", self.text))


class Page:
    """A page that has been parsed."""

    def __init__(self, text: str) -> None:
        self._tokens = PARSER.parse(text)

    def headings(self) -> list[Heading]:
        return [
            Heading(int(token.tag[1]), _plain(inline))
            for token, inline in zip(self._tokens, self._tokens[1:], strict=False)
            if token.type == "heading_open"
        ]

    def anchors(self) -> set[str]:
        """The ids that GitHub gives to the headings."""
        slugs = [_slug(heading.text) for heading in self.headings()]
        seen: Counter[str] = Counter()
        found = set()
        for slug in slugs:
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found

    def links(self) -> list[str]:
        """The targets of links and images, without percent-encoding."""
        targets = [
            token.attrs.get("href") or token.attrs.get("src") for token in self._inline_tokens()
        ]
        return [unquote(str(target)) for target in targets if target]

    def code_blocks(self) -> list[CodeBlock]:
        fences = [token for token in self._tokens if token.type == "fence"]
        return [CodeBlock(token.info.strip(), token.content) for token in fences]

    def first_columns(self) -> list[list[list[str]]]:
        """The code spans in the first cell of each row, table by table, without the header."""
        tables: list[list[list[str]]] = []
        for before, token, inline in zip(
            self._tokens, self._tokens[1:], self._tokens[2:], strict=False
        ):
            if before.type == "table_open":
                tables.append([])
            elif before.type == "tr_open" and token.type == "td_open":
                tables[-1].append(_code_spans(inline))
        return tables

    def _inline_tokens(self) -> Iterator[Token]:
        for token in self._tokens:
            yield from token.children or ()


def _plain(inline: Token) -> str:
    children = inline.children or ()
    return "".join(child.content for child in children if child.type in ("text", "code_inline"))


def _code_spans(inline: Token) -> list[str]:
    return [child.content for child in inline.children or () if child.type == "code_inline"]


def _slug(text: str) -> str:
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
