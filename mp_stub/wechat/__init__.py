"""A pretend WeChat: its server API on the real paths, in the real shapes, with faults on demand.

    platform.py   what WeChat knows: mini programs, access tokens, js_codes
    codes.py      pictures of codes
    faults.py     what goes wrong when it is told to
    server.py     the paths: WeChat's own, and /pretend/* for whoever plays with it

What it is not: WeChat's codes are round, JPEG, and open a mini program; these are
square, PNG, and open a link.  It listens for whoever can reach it, and believes
whoever says who they are.
"""
