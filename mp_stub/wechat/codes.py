"""Images of codes: a QR code instead of WeChat's round code.

The QR code contains a link, so that the camera app of a phone can open it. The
parameters of the link are `page` and `scene`. A mini program gets both in `options`.
"""

import io
from urllib.parse import urlencode

import segno

from mp_stub.wechat.platform import Code


def code_link(code: Code, base: str) -> str:
    return f"{base}?{urlencode({'page': code.page, 'scene': code.scene})}"


def draw_code(code: Code, base: str) -> bytes:
    """A PNG of at most the requested width: each module has a whole number of pixels."""
    qr_code = segno.make_qr(code_link(code, base), error="m")
    png = io.BytesIO()
    qr_code.save(png, kind="png", scale=code.width // qr_code.symbol_size()[0])
    return png.getvalue()
