"""An example site with scan login, to copy from.

    verify.py    verifies the broker's token; the only code that a site's backend needs
    site.py      the site: login page, POST /session, account page, chat page, game page
    sessions.py  cookie sessions
    pictures.py  the person's picture, from the broker's files
    templates.py HTML pages in two languages
    pages/       templates, texts in two languages, styles and the script of the page
    chat/        the page of the chat, and the client module chat.js
    game/        rock-paper-scissors over tunnels: its server and its page
    __main__.py  python -m web_demo --broker http://127.0.0.1:8000

The site uses the broker's URL only. It does not import the broker.
"""
