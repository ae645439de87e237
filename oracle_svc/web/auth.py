"""Authenticate annotators, and refuse writes from other sites.

An annotator is known by a cookie that the shared token opens, or by a header that a reverse proxy sets. Writes are
accepted from our own pages only: other sites can neither set ``X-Labelloop`` without a preflight, which nothing here
answers, nor make a browser claim that a request is same-origin, nor get the cookie sent along (SameSite=Strict).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode, urlsplit

from labelloop.domain.names import sound_name
from labelloop.errors import InvalidInput, NotAllowed
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from oracle_svc.secret_comparison import same_secret
from oracle_svc.web.ended_sessions import EndedSessions
from oracle_svc.web.rate_limit import RateLimit
from oracle_svc.web.session import COOKIE, LIFETIME_S, Session, seal, unseal
from oracle_svc.web.settings import WebSettings

OWN_HEADER = "X-Labelloop"
_OF_LINKS = {"token", "name", "next", "wrong"}
Handler = Callable[[Request, str], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Auth:
    """Wraps handlers that need the annotator's name. Sessions in ``ended`` are refused."""

    def __init__(self, settings: WebSettings, ended: EndedSessions) -> None:
        self._attempts, self._ended = RateLimit(), ended
        self._token = settings.http_token.get_secret_value() if settings.http_token else ""
        self._header = settings.http_user_header
        self._at_https = settings.http_url.startswith("https:")

    def page(self, handler: Handler) -> Endpoint:
        """Wrap a page: unknown visitors are redirected to sign in; a token in the link signs them in."""

        async def endpoint(request: Request) -> Response:
            if self.came_by_link(request):
                return self.take_link(request)
            if name := self.who(request):
                return await handler(request, name)
            if self._header:
                raise self._nobody()
            return RedirectResponse(f"/login?{urlencode({'next': request.url.path})}", status_code=303)

        return endpoint

    def read(self, handler: Handler) -> Endpoint:
        """Wrap a data endpoint: unknown callers get status 401."""

        async def endpoint(request: Request) -> Response:
            if name := self.who(request):
                return await handler(request, name)
            message = "say who you are: open the page and sign in"
            return JSONResponse({"reason": "SIGN_IN", "message": message}, status_code=401)

        return endpoint

    def write(self, handler: Handler) -> Endpoint:
        """Wrap a change: accepted from our own pages only."""
        guarded = self.read(handler)

        async def endpoint(request: Request) -> Response:
            check_own_page(request)
            return await guarded(request)

        return endpoint

    def who(self, request: Request) -> str | None:
        """Return the annotator's name; None or empty if not given. Raises InvalidInput for an invalid name."""
        if self._header:
            given = request.headers.get(self._header)
            return sound_name(_as_utf8(given), "name") if given else None
        session = self._session(request)
        return session.name if session else None

    def _session(self, request: Request) -> Session | None:
        session = unseal(request.cookies.get(COOKIE, ""), self._token, time.time()) if self._token else None
        return None if session is None or session in self._ended else session

    @property
    def asks_for_token(self) -> bool:
        return bool(self._token)

    def sign_in(self, request: Request, token: str, name: str) -> Response:
        """Set the session cookie for an annotator who knows the token, or came by a link that holds it.

        Raises:
            NotAllowed: The token is wrong.
            LimitExceeded: Too many wrong tokens were tried.
        """
        if not self._token:
            raise InvalidInput("NO_SIGN_IN", "the reverse proxy says who asks: there is nothing to sign in to")
        if self.who(request) is None and not self._is_right(request, token):
            raise NotAllowed("WRONG_TOKEN", "that is not the token: ask whoever runs the oracle for it")
        sound = sound_name(name, "name")
        return self._with_cookie(request, JSONResponse({"name": sound}), sound)

    async def sign_out(self, request: Request) -> Response:
        """End the session, on all oracles. Raises Unready if that could not be stored: try again."""
        if session := self._session(request):
            await self._ended.end(session)
        response = JSONResponse({})
        response.delete_cookie(COOKIE, secure=self._is_secure(request), httponly=True, samesite="strict")
        return response

    def came_by_link(self, request: Request) -> bool:
        """Return whether a link led here that holds a token."""
        return bool(self._token) and "token" in request.query_params

    def take_link(self, request: Request) -> Response:
        """Sign in and redirect to the page that was asked for, without the token, which histories and logs would keep.

        That is the page in ``next``, else the link's own.
        """
        query, page = request.query_params, _page_asked_for(request)
        if not self._is_right(request, query["token"]):
            return RedirectResponse(f"/login?{urlencode({'next': page, 'wrong': 'link'})}", status_code=303)
        name = sound_name(query["name"], "name") if query.get("name") else self.who(request) or ""
        return self._with_cookie(request, RedirectResponse(page, status_code=303), name)

    def _is_right(self, request: Request, token: str) -> bool:
        """Compare a token. Raises LimitExceeded for a wrong one after too many from the same address, or from all."""
        right = same_secret(token, self._token)
        if not right:
            self._attempts.note_wrong(request.client.host if request.client else "")
        return right

    def _with_cookie(self, request: Request, response: Response, name: str) -> Response:
        response.set_cookie(
            COOKIE,
            seal(name, self._token, time.time()),
            max_age=LIFETIME_S,
            secure=self._is_secure(request),
            httponly=True,
            samesite="strict",
        )
        return response

    def _is_secure(self, request: Request) -> bool:
        """Return whether the browser uses TLS. A proxy on another machine may not tell us; the settings do."""
        return self._at_https or request.url.scheme == "https"

    def _nobody(self) -> NotAllowed:
        message = f"nobody is named in {self._header}: come through the reverse proxy, which is to set it"
        return NotAllowed("NOBODY_NAMED", message, header=self._header)


def check_own_page(request: Request) -> None:
    """Raise NotAllowed for a request that another site made a browser send."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    elsewhere = site != "same-origin" if site else bool(origin) and not _same_host(request, str(origin))
    if elsewhere or OWN_HEADER not in request.headers or _media_type(request) != "application/json":
        message = f"changes are taken from the oracle's own pages alone: JSON, with a header {OWN_HEADER}"
        raise NotAllowed("CROSS_SITE", message)


def _page_asked_for(request: Request) -> str:
    """Return the path of a page of ours that a link leads to, and what else it asks of that page."""
    asked = request.query_params.get("next", "")
    ours = urlsplit(asked).path if asked.startswith("/") and not asked.startswith(("//", "/\\")) else ""
    path = ours or ("/" if request.url.path == "/login" else request.url.path)
    rest = [(key, value) for key, value in request.query_params.multi_items() if key not in _OF_LINKS]
    return f"{path}?{urlencode(rest)}" if rest else path


def _same_host(request: Request, origin: str) -> bool:
    """Compare hosts without the scheme, which a proxy that terminates TLS hides from us."""
    return urlsplit(origin).netloc == request.headers.get("host")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _as_utf8(header: str) -> str:
    """Decode a header as UTF-8: headers are read as Latin-1, but proxies write names in UTF-8."""
    return header.encode("latin-1").decode("utf-8", errors="replace")
