"""The other side of a login: stand-ins for a phone.

    phone.py      Phone, one pretend person's phone, as Python code uses it
    wire.py       how its acts reach the broker: HTTP or Socket.IO
    page.py       the web page that plays the phone, and the server behind it
    pages/        what that page is made of
    wechat/       a pretend WeChat, for a broker whose provider is wechat
    browsers.py   reads a User-Agent the way a person would say it
    miniprogram/  a WeChat mini program, for WeChat's developer tools
    __main__.py   the same phone from a terminal: python -m mp_stub

Nothing here imports the broker: a phone knows only the wire.
"""
