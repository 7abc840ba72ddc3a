"""Keeps other web pages out. The workspace has no login, so a page elsewhere must not be able to drive it.

Host: a name that an attacker points at 127.0.0.1 (DNS rebinding) is refused. Origin and Sec-Fetch-Site: a request that
another page sends to the driver or to the page's own calls is refused, other ports of this machine included. The Web
API has its token, response URLs cannot be guessed. Other programs of this machine may drive it: it is a stand-in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from demo.workspace.errors import CannotDo
from demo.workspace.journal import Journal

OWN = ("/driver/", "/page/")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(host: str, hosts: frozenset[str], request: web.BaseRequest) -> str:
    """Why this request is not served; "" when it is."""
    if host not in hosts:
        return f"unknown host {host!r}: open {min(hosts)}"
    if not request.path.startswith(OWN):
        return ""
    origin = request.headers.get("Origin")
    if origin is not None and origin not in {f"http://{name}" for name in hosts}:
        return "requests from other pages are refused"
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "requests from other pages are refused"
    if request.method == "POST" and request.content_type != "application/json":
        return "send application/json"
    return ""


def middleware(hosts: Callable[[], frozenset[str]], journal: Journal) -> Middleware:
    """Keep what comes in, refuse, or serve with the headers above. What a person cannot do is 409 with the reason."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(OWN):
            journal.receive(f"{request.method} {request.raw_path}", request.headers, await request.read())
        why = refusal(request.headers.get("Host", ""), hosts(), request)
        if why:
            return web.json_response({"ok": False, "error": why}, status=403)
        try:
            response = await handler(request)
        except CannotDo as error:
            response = web.json_response({"ok": False, "error": str(error)}, status=409)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    return guard
