"""Checks of picture content."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from broker.pool.images import SIZE_READERS, validation_error
from broker.pool.pictures import EXTENSIONS
from broker.providers.pretend import PretendProvider
from mp_stub.wechat.codes import draw_code
from mp_stub.wechat.platform import Code


def jpeg(**options: object) -> bytes:
    content = io.BytesIO()
    Image.effect_noise((64, 48), 50).save(content, "JPEG", **options)
    return content.getvalue()


async def whole() -> dict[str, bytes]:
    """Return one picture of each media type."""
    drawn = await PretendProvider(phone_page_url="http://phone.example/").draw("scene-1")
    png = draw_code(Code("wx", "pages/index", "scene-1", 430), "http://phone.example/")
    return {"image/svg+xml": drawn.content, "image/png": png, "image/jpeg": jpeg()}


async def test_drawn_pictures_are_complete() -> None:
    for media_type, content in (await whole()).items():
        assert validation_error(content, media_type) is None, media_type
    assert validation_error(jpeg(progressive=True), "image/jpeg") is None
    assert set(EXTENSIONS) == set(SIZE_READERS) == set(await whole())


@pytest.mark.parametrize("media_type", SIZE_READERS)
async def test_truncated_picture_is_not_complete(media_type: str) -> None:
    content = (await whole())[media_type]
    cuts = [*range(1, 64), len(content) // 2, len(content) - 8, len(content) - 2]

    for cut in cuts:
        assert validation_error(content[:cut], media_type) == f"not a complete {media_type}", cut


async def test_changed_byte_in_png_is_found() -> None:
    content = (await whole())["image/png"]
    for at in range(0, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1
        assert validation_error(bytes(changed), "image/png") is not None, at


async def test_content_of_another_media_type_is_invalid() -> None:
    kinds = await whole()
    for media_type in SIZE_READERS:
        for other in SIZE_READERS.keys() - {media_type}:
            assert validation_error(kinds[other], media_type) == f"not a complete {media_type}"
    assert (
        validation_error(b"<html>", "text/html")
        == "media type text/html is not one of image/jpeg, image/png, image/svg+xml"
    )


@pytest.mark.parametrize("media_type", SIZE_READERS)
def test_empty_picture_is_invalid(media_type: str) -> None:
    assert validation_error(b"", media_type) == "image is empty"


def test_picture_without_size_is_invalid() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0"></svg>'
    assert validation_error(svg, "image/svg+xml") == "image has no size"
