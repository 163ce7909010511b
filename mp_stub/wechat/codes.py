"""Pictures of codes: a QR code that any reader reads, in place of WeChat's round one.

It carries a link, so that an ordinary camera has something to open: page and scene
are in its query, as the mini program would find them in `options`.
"""

import io
from urllib.parse import urlencode

import segno

from mp_stub.wechat.platform import Code


def link_of(code: Code, base: str) -> str:
    return f"{base}?{urlencode({'page': code.page, 'scene': code.scene})}"


def picture(code: Code, base: str) -> bytes:
    """A PNG, at most as wide as was asked for: a module is a whole number of pixels."""
    drawn = segno.make_qr(link_of(code, base), error="m")
    png = io.BytesIO()
    drawn.save(png, kind="png", scale=code.width // drawn.symbol_size()[0])
    return png.getvalue()
