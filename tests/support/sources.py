"""Python files of this project, each parsed once for all tests of a process.

An outline holds names only. Trees of all files would take 200 MB.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""The fields of a node that hold statements."""


class Function(NamedTuple):
    """lines: their number, with the signature and docstring."""

    name: str
    lines: int


class Outline(NamedTuple):
    """The statements of a file that tests check, at any depth.

    imports: module and name for each imported name; `import a.b` has no name.
    """

    has_docstring: bool
    imports: frozenset[tuple[str, str]]
    classes: tuple[str, ...]
    functions: tuple[Function, ...]


@cache
def outline_of(file: Path) -> Outline:
    return outline(file.read_text())


def outline(source: str) -> Outline:
    tree = ast.parse(source)
    all_statements = list(statements(tree))
    return Outline(
        has_docstring=bool(ast.get_docstring(tree)),
        imports=frozenset(one for node in all_statements for one in imported_names(node)),
        classes=tuple(node.name for node in all_statements if isinstance(node, ast.ClassDef)),
        functions=tuple(
            Function(node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
            for node in all_statements
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
    )


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below `node`, without the expressions, which are most nodes of a tree."""
    for field in BLOCKS:
        for child in getattr(node, field, ()):
            yield child
            yield from statements(child)


def imported_names(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from ((node.module, alias.name) for alias in node.names)
