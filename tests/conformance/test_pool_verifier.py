"""Verification of pictures, and retirement of codes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.blobs.pictures import ObjectPictureStore
from broker.pool.errors import PicturesUnavailable
from broker.pool.retirement import delete_retired_pictures, retire_codes
from broker.pool.verifier import CodeDefect, verify_codes
from broker.records.pool_codes import SqlCodeStore
from tests.support.pool import PUBLIC, CountingProvider, Fill, is_whole, ready_codes


async def test_defects_of_pictures_are_found(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, tmp_path: Path
) -> None:
    await make_filler().run()
    ready = await ready_codes(codes)
    await folder.remove(ready[1].picture)
    (tmp_path / "pictures" / ready[3].picture).write_bytes(b"")
    (tmp_path / "pictures" / ready[5].picture).write_bytes(b"<html>captive</html>")
    exchanged = tmp_path / "pictures" / ready[7].picture
    exchanged.write_bytes((tmp_path / "pictures" / ready[8].picture).read_bytes())

    unread = await verify_codes(codes=codes, pictures=folder, app="shop")
    read = await verify_codes(
        codes=codes, pictures=folder, app="shop", draw=CountingProvider().draw
    )

    assert unread == [
        CodeDefect(1, "picture not found"),
        CodeDefect(3, "image is empty"),
        CodeDefect(5, "not a complete image/svg+xml"),
    ]
    assert read == [
        *unread,
        CodeDefect(7, "picture differs from a new drawing of its scene"),
    ]


async def test_picture_store_outage_is_not_a_defect(
    make_filler: Fill, codes: SqlCodeStore, tmp_path: Path
) -> None:
    await make_filler().run()
    (tmp_path / "file").touch()
    down = ObjectPictureStore((tmp_path / "file" / "x").as_uri(), public_url=PUBLIC)

    with pytest.raises(PicturesUnavailable):
        await verify_codes(codes=codes, pictures=down, app="shop")


async def test_retired_code_is_replaced_and_its_picture_deleted(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore
) -> None:
    await make_filler().run()
    before = await ready_codes(codes)
    closed: list[tuple[str, Mapping[int, int]]] = []

    async def withdraw(app: str, drawings: Mapping[int, int]) -> None:
        closed.append((app, drawings))

    await retire_codes("shop", before[2:4], codes=codes, withdraw=withdraw)
    assert await folder.get(before[2].picture) is not None
    await delete_retired_pictures("shop", codes=codes, pictures=folder)

    assert closed == [("shop", {2: 0, 3: 0})]
    assert [await folder.get(code.picture) is None for code in before[1:5]] == [
        False,
        True,
        True,
        False,
    ]
    assert await make_filler().run() == 2
    after = await ready_codes(codes)
    assert [code.drawing for code in after] == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert not {code.scene for code in before[2:4]} & {code.scene for code in after}
    assert await is_whole(codes, folder, 10)


async def test_failed_picture_deletion_is_repeated_by_next_call(
    make_filler: Fill, codes: SqlCodeStore, folder: ObjectPictureStore, tmp_path: Path
) -> None:
    await make_filler().run()
    chosen = (await ready_codes(codes))[:3]
    (tmp_path / "file").touch()
    down = ObjectPictureStore((tmp_path / "file" / "x").as_uri(), public_url=PUBLIC)
    await retire_codes("shop", chosen, codes=codes)
    with pytest.raises(PicturesUnavailable):
        await delete_retired_pictures("shop", codes=codes, pictures=down)
    assert (await codes.counts())[0].leftover == 3

    await delete_retired_pictures("shop", codes=codes, pictures=folder)

    assert (await codes.counts())[0].leftover == 0
    assert [await folder.get(code.picture) for code in chosen] == [None] * 3
