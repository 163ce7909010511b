"""Conformance of file stores: a folder and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.blobs.files import ObjectFileStore
from broker.files.errors import FilesUnavailable, UnknownFile
from broker.files.ports import FileStore
from tests.support.files import stored_files
from tests.support.servers.s3 import S3Server, running_s3

KEY = "red/2026/11/0123"
LARGE = bytes(range(256)) * 40_000
"""10 MB: more than one part."""


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectFileStore:
    if request.param == "folder":
        return ObjectFileStore((tmp_path / "files").as_uri())
    server: S3Server = request.getfixturevalue("s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    return ObjectFileStore(f"s3://pictures/{tmp_path.name}", endpoint=server.url)


async def put(store: FileStore, key: str, content: bytes) -> None:
    writer = store.open_writer(key, media_type="image/png", disposition="attachment")
    for start in range(0, len(content), 65_536):
        await writer.write(content[start : start + 65_536])
    await writer.close()


async def read(store: FileStore, key: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, start, end)])


async def keys(store: FileStore, time: float) -> list[str]:
    return sorted([key async for some in store.keys_before(time) for key in some])


@pytest.mark.parametrize("content", [b"short", LARGE], ids=["short", "large"])
async def test_closed_file_can_be_read(store: FileStore, content: bytes) -> None:
    await put(store, KEY, content)

    assert await read(store, KEY, 0, len(content)) == content
    assert await read(store, KEY, 2, 4) == content[2:4]


@pytest.mark.parametrize("content", [b"short", LARGE], ids=["short", "large"])
async def test_aborted_file_is_never_there(store: FileStore, content: bytes) -> None:
    writer = store.open_writer(KEY, media_type="image/png", disposition="attachment")
    await writer.write(content)

    writer.abort()

    with pytest.raises(UnknownFile):
        await read(store, KEY, 0, 1)


async def test_deleted_file_is_unknown(store: FileStore) -> None:
    await put(store, KEY, b"content")

    await store.delete(KEY)
    await store.delete(KEY)

    with pytest.raises(UnknownFile):
        await read(store, KEY, 0, 1)


async def test_keys_are_listed_by_age(store: FileStore) -> None:
    await put(store, KEY, b"content")

    assert await keys(store, 4e9) == [KEY]
    assert await keys(store, 0) == []


async def test_s3_signs_urls_and_keeps_headers(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    store = ObjectFileStore(f"s3://pictures/{tmp_path.name}", endpoint=s3.url)
    await put(store, KEY, b"content")

    url = await store.sign_url(KEY, seconds=60)
    metadata = s3.head("pictures", f"{tmp_path.name}/{KEY}")

    assert url.startswith(f"{s3.url}/pictures/{tmp_path.name}/{KEY}?")
    assert metadata["ContentType"] == "image/png"
    assert metadata["ContentDisposition"] == "attachment"


async def test_folder_signs_no_urls(tmp_path: Path) -> None:
    with pytest.raises(FilesUnavailable):
        await ObjectFileStore(tmp_path.as_uri()).sign_url(KEY, seconds=60)


async def test_deleted_file_is_read_to_its_end(tmp_path: Path) -> None:
    store = ObjectFileStore(tmp_path.as_uri())
    await put(store, KEY, LARGE)
    reading = store.read(KEY, 0, len(LARGE))
    first = await anext(reading)

    await store.delete(KEY)

    assert first + b"".join([chunk async for chunk in reading]) == LARGE


@pytest.fixture
def frail_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary-any")
    with running_s3() as server:
        server.make_bucket("files")
        yield server


async def test_store_that_ends_during_a_write_is_unavailable(frail_s3: S3Server) -> None:
    store = ObjectFileStore("s3://files/a", endpoint=frail_s3.url)
    writer = store.open_writer(KEY, media_type="image/png", disposition="attachment")
    await writer.write(b"begun")

    frail_s3.stop()

    with pytest.raises(FilesUnavailable) as caught:
        await writer.close()
    assert "canary" not in caught.value.reason


async def test_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "red").write_text("a file in place of the folder")
    store = ObjectFileStore(tmp_path.as_uri())

    with pytest.raises(FilesUnavailable):
        await put(store, KEY, b"content")

    assert stored_files(tmp_path) == [tmp_path / "red"]
