"""Checks of all tests: they wait for events, not for times, and their names are short.

A busy machine must not make a test fail.  The functions of the broker are short as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.environment import ROOT
from tests.support.sources import Function, outline, outline_of

TESTS = ROOT / "tests"
MODULES = sorted(TESTS.rglob("*.py"))

SLEEPS = frozenset({"sleep", "wait_for_timeout", "call_later"})
CLOCKS = frozenset({"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"})

CLOCK_CALL = re.compile(rf"\b(?:{'|'.join(CLOCKS)}|time\.time|\w*loop(?:\(\))?\.time)$")
"""A function that reads a clock: monotonic, that of an event loop, or the wall clock."""

ARITHMETIC = frozenset({"abs", "float", "int", "max", "min", "round"})

SHORTEST_LIMIT = 30.0
"""Seconds. Of a limit that only bounds a wait: a shorter one may end on a busy machine."""

LONG = "a fault of tests that only `make chaos` runs"

EXCEPTIONS: Mapping[str, str] = {
    "support/waiting.py::eventually": "the shared helper that waits",
    "support/waiting.py::wait_until": "the shared helper that waits",
    "support/servers/redis.py::answers": "a server that gets another request if it does not answer",
    "support/chat_members.py::wait_to_repeat": "a client that repeats a refused request",
    "support/conformance_peer.py::welcome": "the official suite loses a frame sent at once",
    "system/test_concurrent_instances.py::later": "moves one of two racing acts; any order passes",
    "conformance/test_records.py::test_locked_database_file_is_readable": "tests the timeout",
    "conformance/test_records.py::test_hanging_server_causes_a_timeout": "tests the timeout",
    "chaos/browser.py": "a client that behaves as the widget does",
    "chaos/flooder.py": "a client that sends without end; only in `make chaos`",
    "chaos/load.py": "users who arrive at a rate and take their time",
    "chaos/network_link.py": "a slow link",
    "chaos/phone.py": "a client that repeats a request",
    "chaos/sign_in_steps.py::repeated": "a client that repeats a request",
    "chaos/tunnel_talk.py": "a client and a backend that repeat a request",
    "chaos/world.py::stop": "a load balancer that detects a drain late; any delay passes",
    "chaos/test_sign_ins.py::pause_instance": LONG,
    "chaos/test_sign_ins.py::pause_redis": LONG,
    "chaos/test_sign_ins.py::kill_instance": LONG,
    "chaos/test_tunnels.py::redis_paused": LONG,
    "chaos/test_tunnels.py::cut_off": LONG,
    "chaos/test_tunnels.py::backend_down": LONG,
}
"""Functions and modules that may do what is forbidden here, and why."""

LONG_MARKS = frozenset({"long", "pytest.mark.chaos_long"})
"""Decorators of the tests that only `make chaos` runs. The length of a fault belongs to them."""

MOST_WORDS = 9
"""Words of a test name after `test_`."""

MOST_LINES = 50
"""Lines of a function of the broker, with its signature and docstring."""

FORBIDDEN_WORDS = frozenset({"whoever", "somebody", "nobody", "who", "whom", "it", "he", "she"})


def calls(node: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """All calls below `node` and the last part of what each calls."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
            yield one, one.func.attr
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
            yield one, one.func.id


def reads_clock(node: ast.AST, names: frozenset[str] = frozenset()) -> bool:
    """Whether `node` is computed from the time of a clock that a test cannot set.

    A time that is an argument of another function, such as a stub of a clock, does not count.
    """
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if CLOCK_CALL.search(function):
            return True
        if function not in ARITHMETIC:
            return False
    if isinstance(node, ast.Name) and node.id in names:
        return True
    return any(reads_clock(one, names) for one in ast.iter_child_nodes(node))


def fixed_sleeps(function: ast.AST) -> Iterator[tuple[int, str]]:
    for call, name in calls(function):
        zero = call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
        if name in SLEEPS and not zero:
            yield call.lineno, "sleeps for a fixed time: wait for an event, or use `eventually`"


def measured_durations(function: ast.AST) -> Iterator[tuple[int, str]]:
    assigned = [one for one in ast.walk(function) if isinstance(one, ast.Assign)]
    times = frozenset(
        name.id
        for one in assigned
        if reads_clock(one.value)
        for target in one.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    )
    for one in ast.walk(function):
        if isinstance(one, ast.Compare) and reads_clock(one, times):
            yield one.lineno, "compares measured times: use a clock that the test sets"


def short_limits(function: ast.AST, constants: Mapping[str, float]) -> Iterator[tuple[int, str]]:
    """constants: the numbers that the module has under a name."""
    for call, name in calls(function):
        limits = [one.value for one in call.keywords if one.arg in LIMITS]
        limits += call.args[:1] if name in ("timeout", "settimeout") else []
        limits += call.args[1:2] if name in WAITS else []
        for limit in limits:
            seconds = number(limit, constants)
            if seconds is not None and seconds < SHORTEST_LIMIT:
                yield call.lineno, f"waits at most {seconds} s: a busy machine needs 30"


def number(node: ast.AST, constants: Mapping[str, float] = MappingProxyType({})) -> float | None:
    """Return the number that an expression is, by itself or by a name; None if it is another."""
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    return None


def constants_of(tree: ast.Module) -> dict[str, float]:
    """Return the numbers that a module defines, or imports from another one of the tests."""
    found = assigned_numbers(tree)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            defined = defined_numbers(ROOT / f"{str(node.module).replace('.', '/')}.py")
            names = {one.asname or one.name: one.name for one in node.names}
            found |= {here: defined[name] for here, name in names.items() if name in defined}
    return found


@cache
def defined_numbers(file: Path) -> dict[str, float]:
    return assigned_numbers(ast.parse(file.read_text())) if file.is_file() else {}


def assigned_numbers(tree: ast.Module) -> dict[str, float]:
    found: dict[str, float] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            seconds = number(node.value)
            if seconds is not None:
                found |= {ast.unparse(target): seconds for target in targets}
    return found


LIMITS = frozenset({"timeout", "within", "statement_timeout"})
"""Arguments that limit a wait."""

WAITS = frozenset({"wait_for", "eventually", "wait_until"})
"""Functions whose second argument limits a wait."""

SUSPECT = re.compile(
    rf"\b(?:{'|'.join([*SLEEPS, *CLOCKS, *LIMITS, *WAITS])}|settimeout)\b|\btime\("
)
"""A word that each function has which breaks a rule. Most functions have none."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a module, also those inside of others."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_long(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a test runs in `make chaos` only."""
    return any(ast.unparse(one) in LONG_MARKS for one in function.decorator_list)


def is_long_module(tree: ast.Module) -> bool:
    """Whether all tests of a module, and with them its helpers, run in `make chaos` only."""
    marks = [ast.unparse(one) for one in tree.body if isinstance(one, ast.Assign)]
    if any(re.match(r"pytestmark = .*pytest\.mark\.chaos_long\b", mark) for mark in marks):
        return True
    tests = [one for one in functions(tree) if one.name.startswith("test_")]
    return bool(tests) and all(map(is_long, tests))


def suspects(tree: ast.Module, source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a module that have a suspect word and that `make test` runs."""
    lines = [at for at, line in enumerate(source.split("\n"), 1) if SUSPECT.search(line)]
    for node in functions(tree):
        if is_long(node):
            continue
        if any(node.lineno <= line <= (node.end_lineno or line) for line in lines):
            yield node


def problems_in(source: str, module: str) -> dict[str, str]:
    """Problems of a module by place; those of a nested function under its own name."""
    if module in EXCEPTIONS or not SUSPECT.search(source):
        return {}
    tree = ast.parse(source)
    if is_long_module(tree):
        return {}
    found: dict[str, str] = {}
    constants = constants_of(tree)
    for function in suspects(tree, source):
        for line, problem in chain(
            fixed_sleeps(function),
            measured_durations(function),
            short_limits(function, constants),
        ):
            found[f"{module}:{line}"] = f"{module}::{function.name} {problem}"
    return {
        place: problem
        for place, problem in found.items()
        if problem.partition(" ")[0] not in EXCEPTIONS
    }


def test_modules_wait_for_no_fixed_time() -> None:
    problems = [
        f"{place}: {what}"
        for path in MODULES
        for place, what in problems_in(path.read_text(), str(path.relative_to(TESTS))).items()
    ]

    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.sleep(0.1)",
        "time.sleep(seconds)",
        "await page.wait_for_timeout(300)",
        "assert time.monotonic() - began < 2",
        "assert perf_counter() > end",
        "assert loop.time() - start < 1",
        "assert asyncio.get_running_loop().time() < 1",
        "took = time.monotonic() - began; assert took < 2",
        "async with asyncio.timeout(2): ...",
        "await asyncio.wait_for(act(), 2)",
        "await socket.receive(timeout=0.1)",
        "await eventually(act, within=5)",
        "await eventually(act, 5)",
        "await eventually(lambda: time.time() > expires_at)",
        "now = time.time(); assert now - began < 2",
        "loop.call_later(0.1, act)",
        "database = Database(url, statement_timeout=1)",
    ],
)
def test_forbidden_line_is_reported(line: str) -> None:
    assert len(problems_in(f"async def test():\n    {line}", "test_x.py")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.sleep(0)",
        "clock.set(asked_at=time.monotonic() - 2)",
        "assert clock() - began < 2",
        "async with asyncio.timeout(30): ...",
        "await eventually(act)",
        "await eventually(act, 60)",
        "assert token(now=time.time()) == ''",
        "loop.call_later(0, act)",
    ],
)
def test_allowed_line_is_not_reported(line: str) -> None:
    assert problems_in(f"async def test():\n    {line}", "test_x.py") == {}


@pytest.mark.parametrize(
    "head",
    [
        "WITHIN = 5.0",
        "WITHIN: float = 5",
        "from tests.support.conformance_peer import JOIN_TIMEOUT as WITHIN",
    ],
)
def test_short_limit_with_a_name_is_reported(head: str) -> None:
    source = f"{head}\n\nasync def test():\n    await eventually(act, WITHIN)"

    assert len(problems_in(source, "test_x.py")) == 1


SLEEPING = "async def test_a():\n    await asyncio.sleep(1)\n"


@pytest.mark.parametrize(
    ("source", "is_reported"),
    [
        (f"@long\n{SLEEPING}", False),
        (f"@pytest.mark.chaos_long\n{SLEEPING}", False),
        (f"pytestmark = [pytest.mark.chaos_long]\n{SLEEPING}", False),
        (f"@long\n{SLEEPING}async def helper():\n    await asyncio.sleep(1)\n", False),
        (f"@long\ndef test_b(): ...\n{SLEEPING}", True),
        (f"@pytest.mark.timeout(60)\n{SLEEPING}", True),
    ],
)
def test_long_fault_tests_may_sleep(source: str, is_reported: bool) -> None:
    assert bool(problems_in(source, "chaos/test_x.py")) is is_reported


def test_exceptions_exist() -> None:
    for exception in EXCEPTIONS:
        path, _, name = exception.partition("::")

        assert name in {"", *(one.name for one in outline_of(TESTS / path).functions)}


def name_problems(functions: Iterable[Function]) -> list[str]:
    """Names of tests that are too long or have a pronoun."""
    names = [function.name for function in functions if function.name.startswith("test_")]
    words = {name: name.removeprefix("test_").split("_") for name in names}
    return [
        name
        for name in names
        if len(words[name]) > MOST_WORDS or not FORBIDDEN_WORDS.isdisjoint(words[name])
    ]


def test_names_are_short_and_have_no_pronoun() -> None:
    files = sorted(TESTS.rglob("test_*.py"))
    problems = {
        str(path.relative_to(TESTS)): name_problems(outline_of(path).functions) for path in files
    }

    assert {path: names for path, names in problems.items() if names} == {}


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("test_second_phone_cannot_confirm", True),
        ("test_one_two_three_four_five_six_seven_eight_nine", True),
        ("test_one_two_three_four_five_six_seven_eight_nine_ten", False),
        ("test_phone_reads_what_it_sent", False),
        ("test_whoever_scans_confirms", False),
        ("helper_that_is_not_a_test_and_has_it_in_its_name", True),
    ],
)
def test_name_rule_reports_long_names_and_pronouns(name: str, is_allowed: bool) -> None:
    functions = outline(f"def {name}(): ...").functions

    assert (name_problems(functions) == []) is is_allowed


def long_functions(functions: Iterable[Function]) -> list[str]:
    """Names of functions with more than `MOST_LINES` lines."""
    return [function.name for function in functions if function.lines > MOST_LINES]


def test_functions_of_the_broker_are_short() -> None:
    files = sorted((ROOT / "broker").rglob("*.py"))
    long = {
        str(path.relative_to(ROOT)): long_functions(outline_of(path).functions) for path in files
    }

    assert {path: names for path, names in long.items() if names} == {}


@pytest.mark.parametrize(("lines", "is_allowed"), [(MOST_LINES, True), (MOST_LINES + 1, False)])
def test_length_rule_reports_long_functions(lines: int, is_allowed: bool) -> None:
    source = "async def build():\n" + "    step()\n" * (lines - 1)

    assert (long_functions(outline(source).functions) == []) is is_allowed


SCRIPT_SUFFIXES = frozenset({".cjs", ".html", ".js", ".mjs", ".ts", ".tsx", ".vue"})

SCRIPT_EXCEPTIONS: Mapping[str, str] = {
    "clients/miniprogram/elements.js": "the shared helper that waits",
}
"""Test files in JavaScript that may wait for a fixed time, and why."""

SCRIPT_SLEEP = re.compile(
    r"""
    (?<!function\ )\bsleep\((?!0\))
    | \bwaitForTimeout\(
    | \bawait\s+setTimeout\((?!0\))  # of node:timers/promises
    | \bsetTimeout\(\s*
        (?!reject\b)(?: \w+ | \(\)\s*=>\s*\{?\s*(?!reject\b)\w+\(\);?\s*\}? )\s*
        ,(?!\s*0\b)
    """,
    re.VERBOSE,
)
"""A wait for a fixed time. A timeout that rejects is a limit, and one of 0 waits for no time."""


def scripts(folder: Path) -> Iterator[Path]:
    """The JavaScript files below `folder`, without installed packages."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "node_modules":
            yield from scripts(path)
        elif path.suffix in SCRIPT_SUFFIXES:
            yield path


def script_sleeps(source: str) -> list[int]:
    """The numbers of the lines that wait for a fixed time."""
    return [source.count("\n", 0, found.start()) + 1 for found in SCRIPT_SLEEP.finditer(source)]


def test_scripts_wait_for_no_fixed_time() -> None:
    files = {str(path.relative_to(TESTS)): path for path in scripts(TESTS)}
    problems = {name: script_sleeps(path.read_text()) for name, path in files.items()}

    sleeping = {name: lines for name, lines in problems.items() if lines}

    assert sleeping.keys() == SCRIPT_EXCEPTIONS.keys(), sleeping


@pytest.mark.parametrize(
    ("line", "is_allowed"),
    [
        ("await sleep(450);", False),
        ("await sleep(delay);", False),
        ("await page.waitForTimeout(300);", False),
        ("await setTimeout(100);", False),
        ("await new Promise((resolve) => setTimeout(resolve, 450));", False),
        ("await new Promise((done) => setTimeout(() => done(), DELAY_MS));", False),
        ("await new Promise((done) => { setTimeout(\n  () => { done(); },\n  450); });", False),
        ("await sleep(0);", True),
        ("function sleep(milliseconds) {", True),
        ("setTimeout(success, 0, answer);", True),
        ("setTimeout(reject, 30_000);", True),
        ('setTimeout(() => reject(new Error("no event")), 30_000);', True),
        ("pass(3);", True),
    ],
)
def test_script_rule_reports_waits_for_fixed_times(line: str, is_allowed: bool) -> None:
    assert (script_sleeps(line) == []) is is_allowed
