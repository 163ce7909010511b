"""Errors as pages for people, and as JSON for scripts and servers."""

import json
import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .templates import PageTemplates

PAGES_BY_STATUS = {403: "forbidden", 404: "missing", 405: "missing", 503: "unavailable"}

log = logging.getLogger(__name__)


def error_pages(pages: PageTemplates) -> Middleware:
    """Return a middleware that turns aiohttp's errors (404, 405, …) into answers of the site."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPError as refusal:
            if wants_page(request):
                return error_page(request, pages, refusal.status)
            if refusal.content_type != "application/json":
                words = {"error": "invalid_request", "error_description": refusal.reason.lower()}
                refusal.text = json.dumps(words)
                refusal.content_type = "application/json"
            raise
        except web.HTTPException:  # a redirect
            raise
        except Exception:
            if not wants_page(request):
                raise
            log.exception("unexpected error")
            return error_page(request, pages, 500)

    return answer


def wants_page(request: web.Request) -> bool:
    """Return whether a person sees the answer: browsers ask for HTML when they navigate."""
    return "text/html" in request.headers.get("Accept", "")


def error_page(request: web.Request, pages: PageTemplates, status: int) -> web.Response:
    kind = PAGES_BY_STATUS.get(status, "failed")
    return pages.render(request, "error", kind=kind, status=status)
