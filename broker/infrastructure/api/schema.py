"""Request and response models, and the fields that several features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar
from unicodedata import category

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, with_config
from typing_extensions import TypedDict

from broker.errors import InvalidRequest
from broker.infrastructure.base64url import BITS_256

UrlSafe = r"^[A-Za-z0-9_-]+$"

AppIdField = Annotated[str, StringConstraints(min_length=1, max_length=64)]

LoginIdField = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=64)]

SecretField = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=128)]

OpenidField = Annotated[str, StringConstraints(min_length=1, max_length=128)]

RequestIdField = Annotated[str, StringConstraints(pattern=rf"^{BITS_256}$|^$")]
"""The id of an authorization request; empty for none."""

MatchField = Annotated[str, StringConstraints(pattern=r"^[0-9]{2,4}$")]
"""The number or the digits of a match."""

SceneField = Annotated[str, StringConstraints(pattern=UrlSafe, max_length=32)]

LimitField = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}$")]
"""The number of entries of a page, 1 to 999, in a query string."""

Count = Annotated[int, Field(ge=0)]
"""A number of things, or of whole seconds."""


class RequestModel(BaseModel):
    """The fields of a request.  Unknown fields are ignored, so that clients can be newer."""

    model_config = ConfigDict(strict=True, extra="ignore")


@with_config(ConfigDict(extra="forbid"))
class ResponseModel(TypedDict):
    """The fields of a response.  A field that can be missing is `NotRequired`.

    A handler returns a plain dict.  mypy checks its fields and a test validates real responses,
    so the broker does not validate responses itself.
    """


@with_config(ConfigDict(extra="forbid"))
class RequestFields(TypedDict):
    """The fields of a request that the feature's own rules check, for the OpenAPI document."""


R = TypeVar("R", bound=RequestModel)


class EmptyRequest(RequestModel):
    """A request without fields."""


def parse(model: type[R], payload: object) -> R:
    """Return the payload as `model`.  Raises InvalidRequest with the first invalid field."""
    if not isinstance(payload, dict):  # first, because a check against an ABC is slow
        if not isinstance(payload, Mapping):
            raise InvalidRequest("request must be an object with named fields")
        payload = dict(payload)
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}") from None


def sanitize_text(text: str, max_length: int) -> str:
    """Return text from a client so that it can be shown, with at most `max_length` characters.

    Unicode's category C is removed: control characters, and characters that change the
    direction of writing and so can disguise a text.
    """
    if text.isprintable():  # the usual case, without a loop
        return text[:max_length]
    visible = (character for character in text[: 2 * max_length] if category(character)[0] != "C")
    return "".join(visible)[:max_length]
