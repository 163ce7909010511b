"""A stub of WeChat's server API, with WeChat's paths, fields and errors, and faults on demand.

    platform.py   mini programs, access tokens and js_codes
    codes.py      images of codes
    faults.py     the faults that a test can set
    server.py     the HTTP paths: those of WeChat, and /pretend/* to control the stub

Differences from WeChat: WeChat's codes are round JPEG images that open a mini program.
The stub's codes are QR codes as PNG images that open a link. The stub has no access
control, and each client can log in as any person.
"""
