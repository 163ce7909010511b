"""The phone number of a phone's user, from the provider."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from broker.apps.errors import UnknownApp
from broker.apps.ports import Apps
from broker.errors import InvalidRequest
from broker.identity.errors import InvalidPhoneNumberCode, UnregisteredUser, UserBlocked
from broker.identity.ports import Directory
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import RequestModel, ResponseModel
from broker.sessions.authentication import PHONE
from broker.sessions.model import Session, person_key
from broker.users.ports import PhoneNumbers

PHONE_NUMBERS_PER_MINUTE = 10
"""Codes that one user may send per minute: WeChat charges for each number."""


class PhoneNumberRequest(RequestModel):
    code: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class PhoneNumberResponse(ResponseModel):
    """phone_number: in the form of E.164."""

    phone_number: str


class PhoneNumberAPI:
    """Stores the number that the user has shared with the mini program.

    phone_numbers: None if the users are not in the records.
    directory: refuses unregistered users before the provider is called.
    """

    def __init__(
        self,
        *,
        phone_numbers: PhoneNumbers | None,
        directory: Directory,
        providers: ProviderRegistry,
        apps: Apps,
        limit: RateLimiter,
    ) -> None:
        self._phone_numbers = phone_numbers
        self._directory = directory
        self._providers = providers
        self._apps = apps
        self._limit = limit

    async def share(self, session: Session, body: PhoneNumberRequest) -> PhoneNumberResponse:
        if self._phone_numbers is None:
            raise InvalidRequest(
                "this broker stores no phone numbers: its users are not in its records"
            )
        self._limit.count(person_key(session.phone))
        app = self._apps.get(session.phone.app)
        if app is None:
            raise UnknownApp(session.phone.app)
        identity = session.phone.identity
        await self._directory.find(identity)
        provider = await self._providers.get(app)
        number = await provider.phone_number(body.code, identity)
        await self._phone_numbers.set_phone_number(identity, number)
        return {"phone_number": number}


ENDPOINTS = [
    Endpoint(
        "POST",
        "/phone/phone-number",
        PhoneNumberAPI.share,
        role="phone",
        auth=PHONE,
        operation_id="sharePhoneNumber",
        summary="Store the phone number that the user shares",
        request=PhoneNumberRequest,
        response=PhoneNumberResponse,
        errors=(InvalidPhoneNumberCode, UnregisteredUser, UserBlocked),
    ),
]
