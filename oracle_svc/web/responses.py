"""Send errors as JSON or as a page, render pages, and add security headers to all responses."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from labelloop.errors import LabelloopError, WrongState
from labelloop.http.error_status import http_status, refuse_browser, retry_headers
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).parent
_PAGES = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: object) -> Response:
    return HTMLResponse(_PAGES.get_template(template).render(values), status_code=status, headers=headers)


async def refuse(request: Request, error: Exception) -> Response:
    """Return a LabelloopError with its HTTP status: as a page for browsers that follow a link, else as JSON."""
    assert isinstance(error, LabelloopError), "registered for these alone"
    title, error = _in_words(error)
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return page("error.html.j2", http_status(error), retry_headers(error), title=title, message=error.message)
    return refuse_browser(error)


def _in_words(error: LabelloopError) -> tuple[str, LabelloopError]:
    """Return a title, and the error in the words of people who label and have followed a link to an earlier run."""
    run_id = error.values.get("run_id", "")
    if error.reason == "RUN_ARCHIVED":
        message = (
            f"Run {run_id} has ended and is archived. There is nothing left to label in it, and all answers are kept. "
            f"Whoever runs labelloop can bring it back: labelloop run restore {run_id}."
        )
        return "This run is archived", WrongState(error.reason, message, run_id=run_id)
    if error.reason == "RUN_DELETED":
        message = f"Run {run_id} was deleted. Nothing of it can be shown, and there is nothing left to label in it."
        return "This run was deleted", WrongState(error.reason, message, run_id=run_id)
    return "That did not work", error


class SafeHeaders:
    """Middleware that adds security headers, unless a response sets them itself.

    They allow no scripts but ours, no frames and no cached copies; static files are revalidated each time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caching = "no-cache" if scope["path"].startswith("/static/") else "no-store"

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "Cache-Control": caching}.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely)
