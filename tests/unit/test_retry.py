"""What is waited out, and what is said at once."""

from __future__ import annotations

import pytest
from labelloop.eventlog.retry import broker_is_away, retry_while_away
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (NatsTimeoutError(), True),
        (NoRespondersError(), True),
        (ConnectionResetError(), True),
        (ServiceUnavailableError(code=503, err_code=10008), True),
        (BadRequestError(code=400, err_code=10005), True),  # a cluster that is still coming together
        (BadRequestError(code=400, err_code=10071), False),
        (APIError(code=500), False),
        (NotFoundError(code=404), False),
        (MaxPayloadError(), False),
        (ValueError(), False),
    ],
)
def test_only_what_passes_is_waited_out(error: Exception, passes: bool) -> None:
    assert broker_is_away(error) is passes


async def test_what_fails_for_a_while_is_tried_until_it_succeeds() -> None:
    errors: list[Exception] = [NatsTimeoutError(), NoRespondersError()]

    async def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert await retry_while_away(work) == "done"
    assert not errors


async def test_what_will_not_pass_is_raised_from_a_later_try_too() -> None:
    errors: list[Exception] = [ValueError("for good"), NatsTimeoutError()]

    async def work() -> str:
        raise errors.pop()

    with pytest.raises(ValueError, match="for good"):
        await retry_while_away(work)
