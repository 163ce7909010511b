"""Types, names and ranges of files, and their signed URLs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from broker.apps.rules import FILE_TYPES
from broker.files.errors import (
    RangeNotSatisfiable,
    TooManyUploads,
    UnsupportedMediaType,
    UploadsBusy,
)
from broker.files.limits import UPLOADS_MAX, UploadLimits
from broker.files.model import new_storage_key
from broker.files.rules import (
    SIGNATURES,
    clean_name,
    content_disposition,
    detect_media_type,
    parse_range,
)

HEADS = {
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1": "image/jpeg",
    b"\x89PNG\r\n\x1a\n\0\0\0\r": "image/png",
    b"GIF89a\1\0\1\0\0\0": "image/gif",
    b"RIFF\x24\0\0\0WEBP": "image/webp",
    b"\0\0\0\x18ftypmp42": "video/mp4",
    b"%PDF-1.7\n%\xe2\xe3": "application/pdf",
}


@pytest.mark.parametrize(("head", "media_type"), HEADS.items(), ids=HEADS.values())
def test_first_bytes_tell_the_type(head: bytes, media_type: str) -> None:
    assert detect_media_type(head, FILE_TYPES) == media_type


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<svg xmlns=",
        b"<!doctype ht",
        b"RIFF\x24\0\0\0WAVE",
        b"\0\0\0\x18ftypheic",
        b" %PDF-1.7",
        b"\x89PNG",
    ],
)
def test_other_first_bytes_are_refused(head: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        detect_media_type(head, FILE_TYPES)


def test_type_that_the_app_forbids_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        detect_media_type(b"GIF89a\1\0\1\0\0\0", ["png"])


def test_every_type_has_a_signature() -> None:
    assert SIGNATURES.keys() == FILE_TYPES.keys()


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a.png", "a.png"),
        ("a\r\nb.png", "ab.png"),
        ("x" * 300, "x" * 255),
        ("", ""),
        ("folder/", ""),
    ],
)
def test_name_has_no_folder_and_no_control_character(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


def test_disposition_escapes_the_name() -> None:
    assert content_disposition('a "b";.png') == "attachment; filename*=UTF-8''a%20%22b%22%3B.png"
    assert content_disposition("") == "attachment"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=5-7", (5, 8)),
        ("bytes=5-99", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=7-5", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 16 + "-", None),
        ("pages=1-2", None),
        (None, None),
    ],
)
def test_range_is_parsed(header: str | None, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_range_after_the_end_is_not_satisfiable(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 10)


def test_storage_key_begins_with_app_and_month() -> None:
    key = new_storage_key("red", now=1_790_000_000)

    app, year, month, random = key.split("/")
    assert (app, year, month, len(random)) == ("red", "2026", "09", 32)


async def test_ended_upload_frees_its_share() -> None:
    limits = UploadLimits(per_hour=1)
    async with limits.uploading({"one": 1}):
        with pytest.raises(TooManyUploads):
            async with limits.uploading({"one": 1}):
                pass
        async with limits.uploading({"two": 1}):
            pass
    async with limits.uploading({"one": 1}):
        pass


async def test_uploads_of_the_process_are_limited() -> None:
    limits = UploadLimits(per_hour=1)
    async with AsyncExitStack() as stack:
        for n in range(UPLOADS_MAX):
            await stack.enter_async_context(limits.uploading({f"{n}": 1}))

        with pytest.raises(UploadsBusy):
            async with limits.uploading({"another": 1}):
                pass


async def test_new_upload_replaces_the_oldest_slow_one() -> None:
    limits, ended = UploadLimits(per_hour=1, safe_seconds=0), []

    async def hold(name: str) -> None:
        try:
            async with limits.uploading({name: 1}):
                await asyncio.Event().wait()
        except UploadsBusy:
            ended.append(name)

    async with asyncio.TaskGroup() as group:
        held = [group.create_task(hold(f"{n}")) for n in range(UPLOADS_MAX)]
        await asyncio.sleep(0)

        async with limits.uploading({"another": 1}):
            await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)

        for task in held:
            task.cancel()
    assert ended == ["0"]


async def test_person_over_the_limit_replaces_no_upload() -> None:
    limits = UploadLimits(per_hour=1, safe_seconds=0)
    async with limits.uploading({}, person="mallory"):
        pass
    async with AsyncExitStack() as stack:
        for n in range(UPLOADS_MAX):
            await stack.enter_async_context(limits.uploading({f"{n}": 1}))

        with pytest.raises(TooManyUploads):
            async with limits.uploading({}, person="mallory"):
                pass
        await asyncio.sleep(0)  # an upload that ends is cancelled here
