"""An example business site that logs people in by scan; copy from it.

    verify.py    the lines that check the broker's token; all that a site's backend needs
    site.py      the site: login page, POST /session, account page, its own cookie session
    pages/       templates, texts in two languages, style, and the page's script
    __main__.py  python -m web_demo --broker http://127.0.0.1:8000

It knows the broker by its URL only and imports nothing of it.
"""
