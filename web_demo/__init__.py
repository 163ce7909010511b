"""An example site with scan login, to copy from.

    verify.py    verifies the broker's token; the only code that a site's backend needs
    site.py      the site: its routes, the login page and POST /session
    account.py   the account page, and the list of browsers
    oidc.py      the sign-in with OpenID Connect; oidc_routes.py has its routes
    visitors.py  session cookies; sessions.py stores the sessions
    pictures.py  the person's picture, from the broker's files
    responses.py files, errors and security headers
    templates.py HTML pages in two languages
    pages/       templates, texts in two languages, styles and the script of the page
    chat/        the chat: its routes, its page, and the client module chat.js
    game/        rock-paper-scissors over tunnels: its server and its page
    __main__.py  python -m web_demo --broker http://127.0.0.1:8000

    wafer2_server.py is another example: a business server for clients of Wafer v2.

The site uses the broker's URL only. It does not import the broker.
"""
