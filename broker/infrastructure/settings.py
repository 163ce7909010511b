"""Settings groups, and the loader that reads them.

Each package has one group: a class in its `settings.py` with fields, defaults and checks.
`Settings` maps each group's class to its values:

    settings[PoolSettings].pool_size

A field's name is the name of its variable in lower case, without the prefix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from broker.infrastructure.fields import is_web_url
from broker.infrastructure.settings_sources import Source, variable
from broker.infrastructure.urls import check_server_url, hide_passwords

Group = TypeVar("Group", bound="SettingsGroup")


REASONS: Mapping[str, str] = {
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""Sentences for the types of errors of pydantic.  Other types have pydantic's message."""


class InvalidField(ValueError):
    """A check of several fields failed.

    field: the setting to change.  reason: what is wrong and what to do.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field

    def __str__(self) -> str:
        return f"{variable(self.field)}: {hide_passwords(super().__str__())}"


class InvalidGroup(LookupError):
    """The group has a mistake, so it has no values."""


class SettingsGroup(BaseModel):
    """The settings of one package.

    A check of one field is part of the field's type. Checks of several fields, and defaults
    that depend on other fields, are in one `model_validator(mode="after")`. It raises
    InvalidField and runs only if each field is valid. The order of the fields has no meaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def derive(self, **values: object) -> None:
        """Set defaults that depend on other fields; they are not in `model_fields_set`."""
        self.__dict__.update(values)  # the group is frozen for all others


class Settings:
    """The values of all groups, by the group's class.

    sources: of the settings whose values are not defaults, by name.
    """

    def __init__(
        self, groups: Iterable[SettingsGroup], sources: Mapping[str, Source] | None = None
    ) -> None:
        self._groups = {type(group): group for group in groups}
        self.sources = sources or {}

    def __getitem__(self, group: type[Group]) -> Group:
        """Return the group's values. Raises InvalidGroup if it has none."""
        try:
            return cast(Group, self._groups[group])
        except KeyError:
            raise InvalidGroup(group.__name__) from None

    def __iter__(self) -> Iterator[SettingsGroup]:
        return iter(self._groups.values())

    def replace(self, group: type[Group], **values: object) -> Settings:
        """Return settings with other values in one group. The values are not checked."""
        changed = self[group].model_copy(update=values)
        others = (one for one in self if type(one) is not group)
        return Settings([*others, changed], self.sources)

    def values(self) -> dict[str, object]:
        """Return the value of each setting, by name."""
        return {name: getattr(group, name) for group in self for name in type(group).model_fields}


def describe_value(value: object) -> object:
    """Return the value of a setting as JSON, without secrets."""
    if isinstance(value, tuple):
        return [describe_value(member) for member in value]
    if value is None or isinstance(value, int | float):
        return value
    return hide_passwords(str(value))  # the text of a SecretStr is asterisks


def read_groups(
    groups: Collection[type[SettingsGroup]],
    values: Mapping[str, object],
    sources: Mapping[str, Source] | None = None,
) -> tuple[Settings, list[str]]:
    """Return the groups that are valid, and the mistakes in the others."""
    valid, mistakes = [], []
    for group in groups:
        given = {name: values[name] for name in group.model_fields if name in values}
        try:
            valid.append(group.model_validate(given))
        except ValidationError as error:
            mistakes += [
                _mistake(one["loc"], one["type"], one["msg"], one.get("ctx", {}))
                for one in error.errors()
            ]
    return Settings(valid, sources), mistakes


def _mistake(
    location: tuple[int | str, ...], kind: str, message: str, context: Mapping[str, Any]
) -> str:
    cause = context.get("error")
    if isinstance(cause, InvalidField):
        return str(cause)
    reason = REASONS.get(kind, "").format_map(context) or message.removeprefix("Value error, ")
    return str(InvalidField(str(location[0]), reason))


def one_of(names: Collection[str]) -> AfterValidator:
    """Return a check that a value is one of `names`."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is unknown: use one of {join_sorted(names)}")
        return value

    return AfterValidator(check)


def join_sorted(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def list_schemes(schemes: Iterable[str]) -> str:
    """Return the beginnings of URLs with these schemes, for an error."""
    return join_sorted(f"{scheme}://" for scheme in schemes)


def server_url(schemes: Collection[str]) -> AfterValidator:
    """Return a check that a value is a server's URL with one of `schemes`."""

    def check(url: str) -> str:
        if url.partition("://")[0].lower() not in schemes:
            raise ValueError(f"use a URL that begins with one of {list_schemes(schemes)}")
        check_server_url(url)
        return url

    return AfterValidator(check)


def check_web_url(url: str) -> str:
    if not is_web_url(url):
        raise ValueError("use an http or https URL")
    return url


def split_words(value: Any) -> tuple[str, ...]:
    """Return several values: of a list, a JSON list, or text with commas or spaces."""
    if isinstance(value, str):
        text = value.strip()
        value = _json_list(text) if text.startswith("[") else re.split(r"[,\s]+", text)
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise ValueError("use a list of words")
    return tuple(word for word in value if word != "")


def _json_list(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError("use a JSON list, or values separated by commas") from None


StringList = Annotated[tuple[str, ...], BeforeValidator(split_words)]
"""Several values: a TOML list, a JSON list, or one text with commas or spaces."""

SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(split_words)]
"""The same for secrets: no output shows them."""

Port = Annotated[int, Field(ge=0, le=65535)]

Seconds = Annotated[int, Field(gt=0)]

WebURL = Annotated[str, AfterValidator(check_web_url)]
