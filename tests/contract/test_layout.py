"""The house keeps its order: who may import whom, and one door for each library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from broker.app import MOUNTS
from broker.directories import NAMES as DIRECTORY_NAMES
from broker.edge import ROLES
from broker.parts import DIRECTORIES, PROVIDERS
from broker.providers import NAMES
from tests.support.environment import ROOT

HOUSE = ROOT / "broker"

FLOORS: list[set[str]] = [
    {
        "errors",
        "images",
        "metrics",
        "packing",
        "breaker",
        "egress",
        "signals",
        "limits",
        "sources",
        "urls",
    },
    {"logs", "outage", "background"},
    {"listening", "login", "private_file", "redis_link"},
    {"bus", "state", "records", "providers", "directories", "engine", "pictures"},
    {"accounts", "tokens"},
    {"sessions", "pool", "monitor"},
    {"codes"},
    {"flow"},
    {"lobby"},
    {"edge"},
    {"settings", "serving", "process", "workers"},
    {"parts"},
    {"app"},
    {"demo", "commands"},
    {"__main__"},
]
"""A room imports from its own floor's below, never from above or beside."""

SEEN_BY = {"settings": {"app", "commands", "demo", "parts", "__main__"}}
"""Rooms that only these may look into: parts take plain arguments."""

DOORS = {
    "aiohttp": {
        *("edge", "engine", "app", "serving", "demo"),
        *("providers/wechat/api", "directories/http"),
    },
    "aiolimiter": {"pool", "providers/wechat"},
    "alembic": {"records/migrations"},
    "cryptography": {"tokens", "records/seal", "providers/wechat/userinfo"},
    "engineio": {"engine"},
    "jwt": {"tokens"},
    "msgspec": {"login", "packing", "state/redis"},
    "multidict": {"engine"},
    "prometheus_client": {"metrics"},
    "pydantic": {"edge/wire", "settings"},
    "pydantic_settings": {"settings"},
    "hiredis": {"redis_link"},
    "obstore": {"pictures"},
    "redis": {"redis_link"},
    "rich": {"commands/pool"},
    "segno": {"providers/pretend"},
    "socketio": {"engine"},
    "sqlalchemy": {"records"},
    "stamina": {"providers/wechat/api", "directories/http"},
    "standardwebhooks": {"directories/http"},
    "structlog": None,
    "typer": {"__main__", "commands"},
    "uvloop": {"process"},
    "mp_stub": {"demo"},
    "web_demo": {"demo"},
}
"""Where a library comes in; None: anywhere."""

FILES = sorted(HOUSE.rglob("*.py"))


def place(file: Path) -> str:
    """`edge/gate` for broker/edge/gate.py, `edge` for its __init__."""
    parts = file.relative_to(HOUSE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(file: Path) -> str:
    return place(file).split("/")[0]


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def imports(file: Path) -> tuple[str, ...]:
    return tuple(modules(tree_of(file)))


def modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def floor_of(name: str) -> int:
    [floor] = [number for number, rooms in enumerate(FLOORS) if name in rooms]
    return floor


@pytest.mark.parametrize("file", FILES, ids=place)
def test_a_room_imports_only_from_below(file: Path) -> None:
    here = room(file)
    for module in imports(file):
        top, _, rest = module.partition(".")
        there = rest.split(".")[0]
        if top != "broker" or there in ("", here):
            continue
        assert floor_of(there) < floor_of(here), (
            f"broker/{place(file)}.py imports broker.{there}, which is not on a floor below: "
            f"a login flows one way, from edge to state and back through the bus"
        )
        assert here in SEEN_BY.get(there, {here}), (
            f"broker/{place(file)}.py imports broker.{there}: parts take plain arguments instead"
        )


@pytest.mark.parametrize("file", FILES, ids=place)
def test_every_library_has_one_door(file: Path) -> None:
    for module in imports(file):
        library = module.split(".")[0]
        if library == "broker" or library in sys.stdlib_module_names:
            continue
        assert library in DOORS, f"{library} has no door: add it to DOORS, and say why in decisions"
        doors = DOORS[library]
        assert doors is None or any(
            place(file) == door or place(file).startswith(f"{door}/") for door in doors
        ), f"broker/{place(file)}.py imports {library}, whose door is {sorted(doors or [])}"


def test_every_provider_that_can_be_chosen_can_be_made() -> None:
    assert set(NAMES) == set(PROVIDERS)


def test_every_directory_that_can_be_chosen_can_be_made() -> None:
    assert set(DIRECTORY_NAMES) == set(DIRECTORIES)


def test_every_role_that_can_be_chosen_can_be_served() -> None:
    assert set(ROLES) == set(MOUNTS)


def test_every_folder_of_files_is_a_package() -> None:
    """Or it would be missing from the wheel: the migrations, of all things."""
    assert all((file.parent / "__init__.py").exists() for file in FILES)


def test_every_room_has_a_floor() -> None:
    rooms = {room(file) for file in FILES} - {""}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("package", ["web_demo", "mp_stub"])
def test_the_other_sides_know_nothing_of_the_broker(package: str) -> None:
    """They are what a site's and a phone's developers copy from."""
    for file in (ROOT / package).rglob("*.py"):
        tops = {module.split(".")[0] for module in imports(file)}
        assert not tops & ({"broker", "web_demo", "mp_stub"} - {package}), file


@pytest.mark.parametrize("file", FILES, ids=place)
def test_a_file_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(tree_of(file)), f"{file} has no docstring"


TESTS = ROOT / "tests"
TEST_FOLDERS = {"api", "chaos", "clients", "conformance", "contract", "security", "system", "unit"}
TEST_FILES = sorted(file for file in TESTS.rglob("*.py") if "node_modules" not in file.parts)


def is_test_module(module: str) -> bool:
    return any(part.startswith("test_") or part == "conftest" for part in module.split("."))


def is_shared(module: str, importer: Path) -> bool:
    """Whether a file of the tests may import this module of the tests."""
    shared = ("tests.support", "tests.chaos") if is_chaos(importer) else ("tests.support",)
    return module.startswith(shared) and not is_test_module(module)


def is_chaos(file: Path) -> bool:
    return file.is_relative_to(TESTS / "chaos")


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_tests_import_only_shared_helpers(file: Path) -> None:
    imported = {module for module in imports(file) if module.split(".")[0] == "tests"}

    forbidden = {module for module in imported if not is_shared(module, file)}

    assert not forbidden, "move what the file needs to tests/support"


def test_test_modules_are_in_known_folders() -> None:
    folders = {file.relative_to(TESTS).parts[0] for file in TESTS.rglob("test_*.py")}

    assert folders == TEST_FOLDERS
