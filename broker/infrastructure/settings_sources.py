"""Sources of settings, before validation.

    environment        SCAN_LOGIN_PORT
    file               SCAN_LOGIN_PORT_FILE names it
    file               a TOML file
    default

The first source with a value has priority. Kubernetes sets variables of the same form for every
Service of the namespace (`SCAN_LOGIN_PORT=tcp://10.0.0.1:8000` for a Service
`scan-login`); these service links are not settings.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PREFIX = "SCAN_LOGIN_"

LINK_VALUE = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)

LINK_NAME = re.compile(r"(.+?)_(?:SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(?:TCP|UDP|SCTP)\w*)")

TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


EXAMPLE_PREFIX = "replace-by-"
"""Of values in the example files that are not real."""


class Source(NamedTuple):
    """kind: `environment`, `file`, `default`, or `option` for one that the command fixes.

    name: of the variable or the file; else empty.
    """

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


DEFAULT = Source("default")


class FoundValues(NamedTuple):
    """The values found for each setting, and errors in the sources.

    unknown, warnings: sentences.
    """

    values: Mapping[str, object]
    sources: Mapping[str, Source]
    mistakes: list[str]
    unknown: list[str]
    warnings: list[str]


def variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def collect(
    names: Collection[str], environment: Mapping[str, str], file: Path | None
) -> FoundValues:
    """Read every source of the settings `names`."""
    values: dict[str, object] = {}
    sources: dict[str, Source] = {}
    tables, mistakes = _read_toml(file) if file else ({}, [])
    for name in tables.keys() & set(names):
        values[name], sources[name] = tables[name], Source("file", str(file))
    for name, path in _mounted(names, environment):
        try:
            values[name] = Path(path).read_text(encoding="utf-8-sig").strip()
            sources[name] = Source("file", path)
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{variable(name)}_FILE: cannot read {path}: {_why(error)}")
    for name, value in from_environment(names, environment).items():
        values[name], sources[name] = value, Source("environment", variable(name))
    mistakes += _placeholder_mistakes(values)
    unknown = [
        *(unknown_sentence(name, names) for name in _strange(names, environment)),
        *(
            _unknown_in_file(name, tables[name], names, file)
            for name in sorted(tables.keys() - set(names))
        ),
    ]
    return FoundValues(values, sources, mistakes, unknown, _link_warnings(names, environment))


def _placeholder_mistakes(values: Mapping[str, object]) -> list[str]:
    return [
        f"{variable(name)}: this is the placeholder of the example; enter the real value"
        for name, value in values.items()
        if str(value).startswith(EXAMPLE_PREFIX)
    ]


def from_environment(names: Collection[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings, by the setting's name; empty ones are not set."""
    links = service_links(environment)
    known = {variable(name): name for name in names}
    return {
        known[given.upper()]: value
        for given, value in environment.items()
        if value and given.upper() in known and given not in links
    }


def service_links(environment: Mapping[str, str]) -> set[str]:
    """The variables that Kubernetes sets for Services whose names have the settings' prefix."""
    matches = {name: LINK_NAME.fullmatch(name) for name in environment if name.startswith(PREFIX)}
    links = {name for name, match in matches.items() if match}
    ports = {f"{match[1]}_PORT" for match in matches.values() if match}
    return links | {name for name in ports if LINK_VALUE.match(environment.get(name, ""))}


def unknown_sentence(name: str, names: Collection[str], file: Path | None = None) -> str:
    """Return an error that names the setting with the nearest spelling.

    file: the TOML file that has the name; without it the name is a variable.
    """
    known = list(names) if file else [form for one in names for form in (one, f"{one}_file")]
    asked = name.lower().removeprefix(PREFIX.lower())
    near = difflib.get_close_matches(asked, known, 1, 0.7)
    where = f" (from file {file})" if file else ""
    if not near:
        return f"{name}: no such setting{where}"
    meant = near[0] if file else variable(near[0])
    return f"{name}: no such setting; did you mean {meant}?{where}"


def _unknown_in_file(name: str, value: object, names: Collection[str], file: Path | None) -> str:
    if isinstance(value, dict):
        return f"[{name}]: settings are not in tables; remove this line (from file {file})"
    return unknown_sentence(name, names, file)


def _strange(names: Collection[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Variables with the prefix that are not settings: misspelt, or of another version."""
    known = {
        f"{PREFIX}CONFIG",
        *map(variable, names),
        *(f"{variable(name)}_FILE" for name in names),
    }
    links = service_links(environment)
    for name in environment:
        if name.startswith(PREFIX) and name not in known and name not in links:
            yield name


def _link_warnings(names: Collection[str], environment: Mapping[str, str]) -> list[str]:
    """Warnings for links with the name of a setting; other links are ignored silently."""
    links = sorted(service_links(environment) & set(map(variable, names)))
    return [
        f"{name}: ignored, because it is a Kubernetes service link; set enableServiceLinks: "
        "false in the pod"
        for name in links
    ]


def _mounted(names: Collection[str], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Settings whose values are in files: (name, path)."""
    for name in names:
        path = environment.get(f"{variable(name)}_FILE")
        if path:  # an empty variable is not set
            yield name, path


def _read_toml(file: Path) -> tuple[dict[str, object], list[str]]:
    try:
        content = file.read_text(encoding="utf-8-sig")  # some editors begin a file with a BOM
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{file}: {_why(error)}"]
    try:
        found = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        return {}, [_syntax_error(file, content, str(error))]
    return {name.removeprefix(PREFIX.lower()): value for name, value in found.items()}, []


def _syntax_error(file: Path, content: str, reason: str) -> str:
    """`scan-login.toml:3:8: …`, as editors and compilers write a place."""
    place = TOML_PLACE.search(reason)
    if place is None or place[1] is None:
        last = content.rstrip("\n").rpartition("\n")[2]
        line, column = content.rstrip("\n").count("\n") + 1, len(last) + 1
    else:
        line, column = int(place[1]), int(place[2])
    return f"{file}:{line}:{column}: {TOML_PLACE.sub('', reason)}"


def _why(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not UTF-8 text"
