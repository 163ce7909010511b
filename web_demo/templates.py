"""HTML pages in two languages."""

import html
import json
import string
from pathlib import Path

from aiohttp import web

PAGES, CHAT, GAME = (Path(__file__).with_name(name) for name in ("pages", "chat", "game"))
FOLDERS = {"chat.html": CHAT, "game.html": GAME}  # of the others: PAGES
LANGUAGES = {"en": "en", "zh": "zh-CN"}  # the language, and the page's `lang`
LANGUAGE_LIFETIME = 365 * 24 * 60 * 60


class PageTemplates:
    """HTML pages from templates: `frame.html` with one page, and texts from `texts.json`.

    All values are escaped, because names contain arbitrary text.
    """

    def __init__(self, **values: str) -> None:
        self._values = values
        self._texts: dict[str, dict[str, str]] = json.loads(_read("texts.json"))
        self._templates = {
            name: string.Template(_read(f"{name}.html"))
            for name in (
                "frame",
                "login",
                "login_oidc",
                "account",
                "device",
                "error",
                "chat",
                "game",
            )
        }

    def fragment(self, request: web.Request, name: str, values: dict[str, str]) -> str:
        """Return a part of a page as HTML."""
        fields = {**self._texts[choose_language(request)], **values}
        return self._templates[name].substitute({k: html.escape(v) for k, v in fields.items()})

    def render(
        self,
        request: web.Request,
        page: str,
        values: dict[str, str] | None = None,
        *,
        fragments: dict[str, str] | None = None,
        problem: str = "",
        kind: str = "failed",
        status: int = 200,
    ) -> web.Response:
        """Return a page.

        fragments: parts that are HTML already. problem: the name of a text. kind: of an error.
        """
        language = choose_language(request)
        texts = {"lang": LANGUAGES[language], **self._texts[language]}
        texts["title"] = texts[f"{page.removesuffix('_oidc')}_title"]
        texts["problem"] = texts[problem] if problem else ""
        texts |= {name: texts[f"{kind}_{name[6:]}"] for name in ("error_heading", "error_sentence")}
        fields = {k: html.escape(v) for k, v in {**texts, **self._values, **(values or {})}.items()}
        fields |= fragments or {}
        fields["body"] = self._templates[page].substitute(fields)
        response = web.Response(
            text=self._templates["frame"].substitute(fields),
            content_type="text/html",
            status=status,
        )
        response.headers["Content-Language"] = LANGUAGES[language]
        response.headers["Cache-Control"] = (
            "no-store"  # else "back" shows the account after sign-out
        )
        response.set_cookie("lang", language, max_age=LANGUAGE_LIFETIME, samesite="Lax")
        return response


def choose_language(request: web.Request) -> str:
    """`?lang=`, else the cookie, else the first known in Accept-Language, else English."""
    asked = request.headers.get("Accept-Language", "").split(",")
    wanted = [request.query.get("lang", ""), request.cookies.get("lang", ""), *asked]
    names = (tag.strip()[:2].lower() for tag in wanted)
    return next((name for name in names if name in LANGUAGES), "en")


def _read(name: str) -> str:
    return (FOLDERS.get(name, PAGES) / name).read_text(encoding="utf-8")
