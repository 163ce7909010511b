"""Request and response models, and the fields that several features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar
from unicodedata import category

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, with_config
from typing_extensions import TypedDict

from broker.errors import InvalidRequest

UrlSafe = r"^[A-Za-z0-9_-]+$"

AppIdField = Annotated[str, StringConstraints(min_length=1, max_length=64)]

LoginIdField = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=64)]

SecretField = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=128)]

OpenidField = Annotated[str, StringConstraints(min_length=1, max_length=128)]

SceneField = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=32)]


Count = Annotated[int, Field(ge=0)]
"""A number of things, or of whole seconds."""


class RequestModel(BaseModel):
    """The fields of a request.  Unknown fields are ignored, so that clients can be newer."""

    model_config = ConfigDict(strict=True, extra="ignore")


@with_config(ConfigDict(extra="forbid"))
class ResponseModel(TypedDict):
    """The fields of a response.

    Handlers build a plain dict, mypy checks its fields, and a test validates real responses:
    a response costs no validation when it is sent.  A field that may be left out is `NotRequired`.
    """


@with_config(ConfigDict(extra="forbid"))
class RequestFields(TypedDict):
    """The fields of a request that the feature's own rules check, for the OpenAPI document."""


R = TypeVar("R", bound=RequestModel)


class EmptyRequest(RequestModel):
    """A call without fields."""


def parse(model: type[R], payload: object) -> R:
    """The payload as `model`; raises InvalidRequest, which names the first field that is wrong."""
    if not isinstance(payload, dict):  # as it nearly always is, and an ABC takes long to ask
        if not isinstance(payload, Mapping):
            raise InvalidRequest("want an object with named fields")
        payload = dict(payload)
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}") from None


def sanitize_text(text: str, longest: int) -> str:
    """Text from outside as it may be shown, at most `longest` long.

    Without what cannot be seen: control characters, and those that turn the
    direction of writing and so let one thing look like another (Unicode's C).
    """
    if text.isprintable():  # nearly always, and every request asks
        return text[:longest]
    return "".join(one for one in text[: 2 * longest] if category(one)[0] != "C")[:longest]
