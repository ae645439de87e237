"""Send signed POSTs to a webhook receiver that may be away, slow, or asking for a pause."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from time import monotonic, time

import httpx
from labelloop.errors import Unready, WrongState
from labelloop.runtime.backoff import Backoff
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay

from oracle_svc.integrations.messages import BY_LINK
from oracle_svc.integrations.webhook.signatures import Signatures

_TRY_WITHIN_S = 8.0  # no try begins later, so that with its timeout it ends within the 20 s of a push
_RETRY_AFTER_MAX_S = 600.0
_PASSING = (408, 425, 429)  # temporary, as all of 5xx
_BACKOFF = Backoff(0.2, 4.0, jitter_s=0.2)


class Sender:
    """POSTs to one URL. Follows no redirects: a message signed for one place is not carried to another."""

    def __init__(self, url: str, signatures: Signatures, timeout_s: float) -> None:
        self._url, self._signatures, self._timeout_s = url, signatures, timeout_s
        self._tls = httpx.create_ssl_context()
        self._not_before_s = 0.0

    async def post(self, message_id: str, body: str) -> None:
        """Send a message and return once the receiver has taken it.

        Raises:
            Unready: The receiver did not take it within some tries, or had asked for a pause that is not over.
            WrongState: The receiver will never take it.
        """
        wait_s = self._not_before_s - monotonic()
        if wait_s > 0:
            message = f"its receiver asked to be left alone for {wait_s:.0f} s more"
            raise Unready("WEBHOOK_AWAY", message, retry_after_s=wait_s)

        async def once() -> None:
            await self._once(message_id, body)

        stop, passing = stop_before_delay(_TRY_WITHIN_S), retry_if_exception_type(Unready)
        try:
            await AsyncRetrying(retry=passing, stop=stop, wait=_wait_s, reraise=True)(once)
        except Unready as error:
            self._not_before_s = monotonic() + error.retry_after_s
            raise

    async def _once(self, message_id: str, body: str) -> None:
        """Try once. Each try has a signature of its own, as the receiver refuses old ones."""
        headers = {"content-type": "application/json", **self._signatures.headers(message_id, body)}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpx.AsyncClient(verify=self._tls, timeout=None) as client,
                client.stream("POST", self._url, content=body.encode(), headers=headers) as response,
            ):
                _check(response)
        except TimeoutError as error:
            message = f"its receiver did not answer within {self._timeout_s:g} s"
            raise Unready("WEBHOOK_AWAY", message) from error
        except httpx.TransportError as error:
            message = f"no connection to its receiver: {error or type(error).__name__}"
            raise Unready("WEBHOOK_AWAY", message) from error


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, Unready) else 0.0
    return max(_BACKOFF(state), asked_s)


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    if status in _PASSING or response.is_server_error:
        after_s = retry_after_s(response.headers.get("retry-after", ""))
        raise Unready("WEBHOOK_AWAY", f"its receiver answers {status}", retry_after_s=after_s)
    if status == 410:
        message = "the webhook's receiver wants no more (410): set LABELLOOP_WEBHOOK_URL to another, or end the run"
        raise WrongState("WEBHOOK_GONE", message, status=status)
    advice = "it takes no such message: see its log, and whether LABELLOOP_WEBHOOK_URL and _SECRET are right"
    if response.is_redirect:
        advice = "redirects are not followed: set LABELLOOP_WEBHOOK_URL to where it points"
    elif status == 413:
        advice = f"raise its limit on a body, which holds up to 50 requests, or {BY_LINK}"
    raise WrongState("WEBHOOK_REFUSED", f"the webhook's receiver answers {status}: {advice}", status=status)


def retry_after_s(value: str) -> float:
    """Return the seconds that a Retry-After header asks for, at most ten minutes; 0 if it is not valid."""
    if value.isascii() and value.isdigit():
        return min(float(value), _RETRY_AFTER_MAX_S)
    try:
        until_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(until_s - time(), 0.0), _RETRY_AFTER_MAX_S)
