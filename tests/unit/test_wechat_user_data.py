"""Tests of signed and encrypted user data: the test vector of WeChat, and invalid input."""

from __future__ import annotations

import base64

import pytest

from broker.identity.errors import UserDataDecryptionFailed
from broker.identity.ports import SecretText
from broker.providers.wechat.user_data import WeChatUserData
from tests.support.wechat import APPID
from tests.support.wechat_user_data import IV, KEY, OTHER, b64, encrypted, packed, padded

RAW_DATA = (
    '{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou",'
    '"province":"Guangdong","country":"CN","avatarUrl":'
    '"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIG'
    'BiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}'
)
SIGNED_WITH = "HyVFkGl5F5OQWJZZaNzBBg=="
SIGNATURE = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
"""Values from WeChat's documentation of signatures."""


GROUP = {"openGId": "群-1", "watermark": {"appid": APPID, "timestamp": 1477314187}}


def uneven_padding(content: bytes) -> bytes:
    """Return content with padding whose length is only in its last byte."""
    return content[: -content[-1]] + bytes(content[-1] - 1) + content[-1:]


@pytest.fixture
def user_data() -> WeChatUserData:
    return WeChatUserData(APPID)


def test_documented_signature_is_valid(user_data: WeChatUserData) -> None:
    assert user_data.is_signed(RAW_DATA, SIGNATURE, SecretText(SIGNED_WITH))


@pytest.mark.parametrize(
    ("raw_data", "signature", "key"),
    [
        (RAW_DATA + " ", SIGNATURE, SIGNED_WITH),
        (RAW_DATA, SIGNATURE[:-1] + "d", SIGNED_WITH),
        (RAW_DATA, SIGNATURE.upper(), SIGNED_WITH),
        (RAW_DATA, "", SIGNED_WITH),
        (RAW_DATA, "签", SIGNED_WITH),
        (RAW_DATA, SIGNATURE, b64(OTHER)),
    ],
)
def test_other_signature_is_invalid(
    user_data: WeChatUserData, raw_data: str, signature: str, key: str
) -> None:
    assert not user_data.is_signed(raw_data, signature, SecretText(key))


def test_data_encrypted_for_the_app_is_decrypted(user_data: WeChatUserData) -> None:
    data = user_data.decrypt(encrypted(packed(GROUP)), b64(IV), SecretText(b64(KEY)))

    assert data == GROUP


VALID = encrypted(packed(GROUP))
INVALID: dict[str, tuple[str, str, str]] = {
    "another key": (VALID, b64(IV), b64(OTHER)),
    "another iv": (VALID, b64(OTHER), b64(KEY)),
    "a short iv": (VALID, b64(IV[:8]), b64(KEY)),
    "a long key": (VALID, b64(IV), b64(KEY * 2)),
    "no key": (VALID, b64(IV), ""),
    "no data": ("", b64(IV), b64(KEY)),
    "no base64": ("*" * 24, b64(IV), b64(KEY)),
    "not ascii": ("密", b64(IV), b64(KEY)),
    "an incomplete block": (b64(base64.b64decode(VALID)[:-8]), b64(IV), b64(KEY)),
    "a missing block": (b64(base64.b64decode(VALID)[:-16]), b64(IV), b64(KEY)),
    "no padding": (encrypted(b'{"a":1234567890}'), b64(IV), b64(KEY)),
    "too much padding": (encrypted(packed(GROUP)[:-1] + b"\x11"), b64(IV), b64(KEY)),
    "uneven padding": (encrypted(uneven_padding(packed(GROUP))), b64(IV), b64(KEY)),
    "no json": (encrypted(padded(b"{")), b64(IV), b64(KEY)),
    "no utf-8": (encrypted(padded(b'"\xff"')), b64(IV), b64(KEY)),
    "a list": (encrypted(packed([GROUP])), b64(IV), b64(KEY)),
    "a number": (encrypted(packed(7)), b64(IV), b64(KEY)),
    "no watermark": (encrypted(packed({"openGId": "1"})), b64(IV), b64(KEY)),
    "an empty watermark": (encrypted(packed({"watermark": {}})), b64(IV), b64(KEY)),
    "an invalid watermark": (encrypted(packed({"watermark": APPID})), b64(IV), b64(KEY)),
    "data of another app": (
        encrypted(packed({"watermark": {"appid": "wxffffffffffffffff"}})),
        b64(IV),
        b64(KEY),
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_user_data_has_one_response(user_data: WeChatUserData, name: str) -> None:
    encrypted_data, iv, key = INVALID[name]

    with pytest.raises(UserDataDecryptionFailed) as refusal:
        user_data.decrypt(encrypted_data, iv, SecretText(key))

    assert refusal.value.body() == UserDataDecryptionFailed().body()
