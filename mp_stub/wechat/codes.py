"""Pictures of codes: a QR code that any reader reads, in place of WeChat's round one.

It carries a link, so that an ordinary camera has something to open: page and scene
are in its query, as the mini program would find them in `options`.
"""

import io
from urllib.parse import urlencode

import segno

from mp_stub.wechat.platform import Code


def code_link(code: Code, base: str) -> str:
    return f"{base}?{urlencode({'page': code.page, 'scene': code.scene})}"


def draw_code(code: Code, base: str) -> bytes:
    """A PNG, at most as wide as was asked for: a module is a whole number of pixels."""
    qr_code = segno.make_qr(code_link(code, base), error="m")
    png = io.BytesIO()
    qr_code.save(png, kind="png", scale=code.width // qr_code.symbol_size()[0])
    return png.getvalue()
