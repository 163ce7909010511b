"""The dependency rules of `broker/`, as tables, and a check for each."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.environment import ROOT
from tests.support.sources import outline_of

BROKER = ROOT / "broker"
FILES = sorted(BROKER.rglob("*.py"))

FEATURES: Mapping[str, frozenset[str]] = {
    "apps": frozenset(),
    "tokens": frozenset(),
    "widget": frozenset(),
    "monitoring": frozenset(),
    "audit": frozenset(),
    "identity": frozenset({"apps"}),
    "pool": frozenset({"apps", "identity"}),
    "sessions": frozenset({"apps", "identity"}),
    "users": frozenset({"apps", "identity", "sessions"}),
    "login": frozenset({"apps", "identity", "tokens", "pool", "sessions"}),
    "oidc": frozenset({"apps", "identity", "tokens", "sessions", "users", "login", "audit"}),
    "tunnels": frozenset({"apps", "identity", "sessions"}),
    "wafer": frozenset({"apps", "identity", "sessions", "tunnels"}),
    "chat": frozenset({"apps", "identity", "sessions", "tokens", "users"}),
    "files": frozenset({"apps", "identity", "sessions"}),
    "admin": frozenset({"apps", "tokens"}),
}
"""Each feature, and the features that it may import, apart from `errors` and `infrastructure`."""

BACKENDS = frozenset({"state", "bus", "records", "blobs", "providers", "directories", "policies"})
"""Backends implement the ports of features, and do not import each other."""

COMPOSITION = ("settings", "backends", "services", "operators", "context", "app", "cli", "__main__")
"""Each may import the previous ones and every package."""

SHARED_FILES = frozenset(
    [
        "authentication",
        "client_authentication",
        "code_pool",
        "delivery",
        "errors",
        "issuer",
        "limits",
        "model",
        "origins",
        "policy",
        "ports",
        "registry",
        "rules",
        "service",
    ]
)
"""The files of a feature that other features may import."""

WIRES = frozenset({("wafer", "tunnels")})
"""Each feature that is another API of a second one, and may import all its files."""

PORT_FILES = frozenset({"errors", "model", "ports", "rules"})
"""The files of a feature that backends may import."""

PORT_EXCEPTIONS = frozenset({"pool/pictures"})
"""Picture keys and media types, which a store of pictures needs."""

FILE_ORDER: tuple[frozenset[str], ...] = (
    frozenset({"errors", "metrics"}),
    frozenset({"model", "match", "user_code"}),
    frozenset({"rules", "events", "ports", "keys"}),
    frozenset({"settings", "images", "pictures", "demand"}),
    frozenset({"limits", "reader"}),
    frozenset(),  # services and other classes with behaviour: every name that is not listed
    frozenset({"authentication"}),
    frozenset(),  # endpoints: every name that ends in `api`
    frozenset({"mount"}),
)
"""Inside a feature, a file imports files of the same or an earlier group."""

SERVICES, ENDPOINTS = 5, 7

INFRASTRUCTURE: tuple[frozenset[str], ...] = (
    frozenset(
        [
            "base64url",
            "background",
            "clock",
            "codec",
            "coordination",
            "fair_queue",
            "fields",
            "notices",
            "observability",
            "rate_limit",
            "retries",
            "settings",
            "settings_sources",
            "sharding",
            "urls",
        ]
    ),
    frozenset({"crypto", "outbound", "redis", "transport"}),
    frozenset({"api"}),
    frozenset({"runtime"}),
)
"""Inside `infrastructure`, a module imports its own group's first member or earlier groups."""

EARLY_RUNTIME = frozenset({"infrastructure/runtime/drain"})
"""Files of `runtime` that any part of `infrastructure` may import: they import none of it."""

TRANSPORT = ("websocket", "engineio", "socketio")

PURE_FILES = (
    "login/model",
    "login/rules",
    "login/events",
    "pool/demand",
    "apps/rules",
    "users/rules",
    "audit/rules",
    "files/rules",
)
PURE_LIBRARIES = frozenset({"msgspec"})
IMPURE_MODULES = frozenset({"asyncio", "time", "socket", "threading", "random"})

LIBRARIES: Mapping[str, frozenset[str] | None] = {
    "aiohttp": frozenset(
        {"infrastructure/api", "infrastructure/transport", "infrastructure/outbound"}
        | {
            "infrastructure/runtime",
            "*api",
            "authentication",
            "origins",
            "app",
            "apps/client_authentication",
            "cli/demo",
            "cli/checks",
        }
        | {"providers/wechat/client", "directories/webhook", "policies/webhook"}
        | {"oidc/pages", "oidc/cookies", "oidc/redirects", "files/multipart"}
    ),
    "aiolimiter": frozenset({"pool", "providers/wechat"}),
    "aiosqlite": frozenset({"records/sqlite_threads"}),
    "alembic": frozenset({"records/migrations"}),
    "cryptography": frozenset(
        {"tokens/keys", "infrastructure/crypto", "providers/wechat/user_data"}
    ),
    "engineio": frozenset({"infrastructure/transport"}),
    "hiredis": frozenset({"infrastructure/redis"}),
    "jwt": frozenset({"tokens"}),
    "msgspec": frozenset(
        {"login/model", "login/match", "login/rules", "sessions", "state"}
        | {"infrastructure/codec", "infrastructure/observability/log_lines"}
    ),
    "multidict": frozenset({"infrastructure/transport"}),
    "obstore": frozenset({"blobs"}),
    "prometheus_client": frozenset({"infrastructure/observability/metrics"}),
    "pydantic": frozenset(
        {"infrastructure/api/schema", "infrastructure/api/openapi_operations", "*api"}
        | {"infrastructure/settings", "settings"}
    ),
    "redis": frozenset({"infrastructure/redis"}),
    "rich": frozenset({"cli/output", "cli/progress"}),
    "segno": frozenset({"providers/pretend"}),
    "socketio": frozenset({"infrastructure/transport"}),
    "sqlalchemy": frozenset({"records"}),
    "stamina": frozenset({"providers/wechat/client", "infrastructure/outbound"}),
    "standardwebhooks": frozenset({"infrastructure/outbound"}),
    "structlog": None,
    "typing_extensions": frozenset({"infrastructure/api/schema"}),
    "typer": frozenset({"cli"}),
    "uvloop": frozenset({"infrastructure/runtime/process"}),
    "mp_stub": frozenset({"cli/demo"}),
    "web_demo": frozenset({"cli/demo"}),
}
"""Places that may import each library: a folder, a file, or a file name in any folder.

None: anywhere.  `*api` is every file whose name ends in `api`.
"""


class Import(NamedTuple):
    """One import: `importer` and `imported` are paths such as `login/service`."""

    importer: str
    imported: str


def path_of(file: Path) -> str:
    """`login/service` for broker/login/service.py, `login` for its `__init__`."""
    parts = file.relative_to(BROKER).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(path: str) -> str:
    return path.partition("/")[0]


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


@cache
def imported_modules(file: Path) -> frozenset[str]:
    """The full names of all modules that a file imports, also under TYPE_CHECKING."""
    names = outline_of(file).imports
    return frozenset(submodule_or_module(module, name) for module, name in names)


@cache
def submodule_or_module(module: str, name: str) -> str:
    if not name or not module.startswith("broker"):
        return module
    below = ROOT.joinpath(*module.split("."), name)
    is_module = below.is_dir() or below.with_suffix(".py").exists()
    return f"{module}.{name}" if is_module else module


@cache
def imports() -> list[Import]:
    """The imports between files of `broker/`."""
    return sorted(
        {
            Import(path_of(file), module.removeprefix("broker").strip(".").replace(".", "/"))
            for file in FILES
            for module in imported_modules(file)
            if module.split(".")[0] == "broker"
        }
    )


def inside() -> list[Import]:
    """The imports inside a package."""
    return [one for one in imports() if package_of(one.importer) == package_of(one.imported)]


def across() -> list[Import]:
    """The imports of another package."""
    return [
        one
        for one in imports()
        if package_of(one.importer) != package_of(one.imported) and one.imported and one.importer
    ]


def allowed_packages(package: str) -> frozenset[str]:
    if package == "errors":
        return frozenset()
    if package == "infrastructure":
        return frozenset({"errors"})
    if package in FEATURES:
        return FEATURES[package] | {"errors", "infrastructure"}
    if package in BACKENDS:
        return frozenset(FEATURES) | {"errors", "infrastructure"}
    earlier = COMPOSITION[: COMPOSITION.index(package)]
    return frozenset(FEATURES) | BACKENDS | {"errors", "infrastructure", *earlier}


def test_every_package_has_a_level() -> None:
    packages = {package_of(path_of(file)) for file in FILES} - {""}

    assert packages == {"errors", "infrastructure", *FEATURES, *BACKENDS, *COMPOSITION}


def test_package_imports_lower_levels_only() -> None:
    wrong = [
        one
        for one in across()
        if package_of(one.imported) not in allowed_packages(package_of(one.importer))
    ]

    assert not wrong, "move what is shared to a lower package, or declare a port"


def test_settings_import_only_settings_groups() -> None:
    wrong = [
        one
        for one in across()
        if one.importer == "settings"
        and package_of(one.imported) not in {"errors", "infrastructure"}
        and name_of(one.imported) != "settings"
    ]

    assert not wrong, "broker/settings.py reads groups; `config check` must not load the server"


SETTINGS_READERS = frozenset({"infrastructure/transport/engines", *COMPOSITION, *BACKENDS})
"""Files and packages that read groups, with every `mount.py`. Classes take plain arguments."""


def test_settings_groups_are_read_at_composition_only() -> None:
    wrong = [
        one
        for one in imports()
        if name_of(one.imported) == "settings"
        and one.imported != "infrastructure/settings"
        and not {one.importer, package_of(one.importer)} & SETTINGS_READERS
        and name_of(one.importer) not in {"mount", "settings"}
    ]

    assert not wrong, "pass the value as an argument"


def test_feature_imports_shared_files_only() -> None:
    wrong = [
        one
        for one in across()
        if {package_of(one.importer), package_of(one.imported)} <= FEATURES.keys()
        and name_of(one.imported) not in SHARED_FILES
        and (package_of(one.importer), package_of(one.imported)) not in WIRES
    ]

    assert not wrong, f"features share only {sorted(SHARED_FILES)}"


def test_backend_imports_ports_and_models_only() -> None:
    wrong = [
        one
        for one in across()
        if package_of(one.importer) in BACKENDS
        and package_of(one.imported) in FEATURES
        and name_of(one.imported) not in PORT_FILES
        and one.imported not in PORT_EXCEPTIONS
    ]

    assert not wrong, f"a backend imports only {sorted(PORT_FILES)} of a feature"


def test_commands_import_no_endpoints() -> None:
    wrong = [
        one
        for one in across()
        if package_of(one.importer) == "cli"
        and package_of(one.imported) in FEATURES
        and (name_of(one.imported).endswith("api") or name_of(one.imported) == "mount")
    ]

    assert not wrong


def test_only_app_imports_mount_files() -> None:
    wrong = [one for one in imports() if name_of(one.imported) == "mount" and one.importer != "app"]

    assert not wrong


def group_of_file(path: str) -> int:
    name = name_of(path)
    if name.endswith("api"):
        return ENDPOINTS
    return next((n for n, group in enumerate(FILE_ORDER) if name in group), SERVICES)


def test_files_of_a_feature_import_in_order() -> None:
    wrong = [
        one
        for one in inside()
        if package_of(one.importer) in FEATURES
        and group_of_file(one.imported) > group_of_file(one.importer)
    ]

    assert not wrong, "see FILE_ORDER"


def group_of_infrastructure(path: str) -> int:
    member = path.split("/")[1]
    [group] = [n for n, names in enumerate(INFRASTRUCTURE) if member in names]
    return group


def test_infrastructure_imports_in_order() -> None:
    inner = [one for one in inside() if one.importer.startswith("infrastructure/")]
    wrong = [
        one
        for one in inner
        if one.imported.split("/")[1] != one.importer.split("/")[1]
        and one.imported not in EARLY_RUNTIME
        and (
            group_of_infrastructure(one.imported) > group_of_infrastructure(one.importer)
            or group_of_infrastructure(one.imported) == group_of_infrastructure(one.importer) > 0
        )
    ]

    assert not wrong, "see INFRASTRUCTURE"


def test_early_runtime_files_import_no_infrastructure() -> None:
    wrong = [one for one in inside() if one.importer in EARLY_RUNTIME]

    assert not wrong


def test_transport_protocols_import_in_order() -> None:
    def level(path: str) -> int:
        protocol = path.removeprefix("infrastructure/transport").strip("/").split("/")[0]
        return TRANSPORT.index(protocol) if protocol in TRANSPORT else -1

    wrong = [
        one
        for one in inside()
        if one.importer.startswith("infrastructure/transport/")
        and level(one.importer) >= 0
        and level(one.imported) > level(one.importer)
    ]

    assert not wrong, "websocket must not import Engine.IO, Engine.IO must not import Socket.IO"


@pytest.mark.parametrize("path", PURE_FILES)
def test_pure_file_imports_no_clock_and_no_io(path: str) -> None:
    modules = {module.split(".")[0] for module in imported_modules(BROKER / f"{path}.py")}
    libraries = modules - sys.stdlib_module_names - {"broker"}

    assert not modules & IMPURE_MODULES
    assert libraries <= PURE_LIBRARIES


def is_allowed_place(path: str, places: frozenset[str]) -> bool:
    return any(
        path == place
        or path.startswith(f"{place}/")
        or name_of(path) == place
        or (place == "*api" and name_of(path).endswith("api"))
        for place in places
    )


def misplaced_libraries(file: Path) -> Iterator[str]:
    for module in imported_modules(file):
        library = module.split(".")[0]
        if library == "broker" or library in sys.stdlib_module_names:
            continue
        if library not in LIBRARIES:
            yield f"{library}: add it to LIBRARIES and write a decision record"
            continue
        places = LIBRARIES[library]
        if places is not None and not is_allowed_place(path_of(file), places):
            yield f"{path_of(file)} imports {library}, which is allowed in {sorted(places)}"


def test_library_is_imported_in_its_place() -> None:
    assert [problem for file in FILES for problem in misplaced_libraries(file)] == []


def assert_no_cycle(imports: list[Import]) -> None:
    graph: dict[str, set[str]] = {}
    for one in imports:
        if one.importer != one.imported:
            graph.setdefault(one.importer, set()).add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_files_import_without_cycles() -> None:
    assert_no_cycle(imports())


def test_packages_import_without_cycles() -> None:
    assert_no_cycle([Import(package_of(a), package_of(b)) for a, b in across()])


def test_class_names_are_unique() -> None:
    names = Counter(name for file in FILES for name in outline_of(file).classes)

    assert not [name for name, count in names.items() if count > 1]


def test_feature_packages_contain_a_docstring_only() -> None:
    for package in FEATURES:
        body = ast.parse((BROKER / package / "__init__.py").read_text()).body

        assert [type(node) for node in body] == [ast.Expr], package


def test_top_level_names_do_not_shadow_the_standard_library() -> None:
    names = {package_of(path_of(file)) for file in FILES}

    assert not names & sys.stdlib_module_names


def test_every_folder_of_files_is_a_package() -> None:
    assert all((file.parent / "__init__.py").exists() for file in FILES)


@pytest.mark.parametrize("package", ["web_demo", "mp_stub"])
def test_example_package_imports_neither_broker_nor_the_other(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        tops = {module.split(".")[0] for module in imported_modules(file)}

        assert not tops & ({"broker", "web_demo", "mp_stub"} - {package}), file


def test_every_file_has_a_docstring() -> None:
    assert [path_of(file) for file in FILES if not outline_of(file).has_docstring] == []


TESTS = ROOT / "tests"
TEST_FOLDERS = {
    *("api", "chaos", "clients", "conformance", "contract"),
    *("deployment", "interop", "security", "system", "unit"),
}
TEST_FILES = sorted(file for file in TESTS.rglob("*.py") if "node_modules" not in file.parts)


def is_test_module(module: str) -> bool:
    return any(part.startswith("test_") or part == "conftest" for part in module.split("."))


def is_shared(module: str, importer: Path) -> bool:
    """Whether a file of the tests may import this module of the tests."""
    shared = ("tests.support", "tests.chaos") if is_chaos(importer) else ("tests.support",)
    return module.startswith(shared) and not is_test_module(module)


def is_chaos(file: Path) -> bool:
    return file.is_relative_to(TESTS / "chaos")


def test_tests_import_only_shared_helpers() -> None:
    forbidden = [
        f"{file.relative_to(TESTS)} imports {module}"
        for file in TEST_FILES
        for module in imported_modules(file)
        if module.split(".")[0] == "tests" and not is_shared(module, file)
    ]

    assert not forbidden, "move what the file needs to tests/support"


def test_test_modules_are_in_known_folders() -> None:
    folders = {file.relative_to(TESTS).parts[0] for file in TESTS.rglob("test_*.py")}

    assert folders == TEST_FOLDERS
