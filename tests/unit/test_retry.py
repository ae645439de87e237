"""Which errors of the broker are retried, and which are raised at once."""

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
        (BadRequestError(code=400, err_code=10005), True),  # a cluster that is still forming
        (BadRequestError(code=400, err_code=10071), False),
        (APIError(code=500), False),
        (NotFoundError(code=404), False),
        (MaxPayloadError(), False),
        (ValueError(), False),
    ],
)
def test_only_temporary_errors_count_as_an_unavailable_broker(error: Exception, passes: bool) -> None:
    assert broker_is_away(error) is passes


async def test_work_is_retried_until_temporary_errors_end() -> None:
    errors: list[Exception] = [NatsTimeoutError(), NoRespondersError()]

    async def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert await retry_while_away(work) == "done"
    assert not errors


async def test_a_permanent_error_of_a_later_try_is_raised() -> None:
    errors: list[Exception] = [ValueError("for good"), NatsTimeoutError()]

    async def work() -> str:
        raise errors.pop()

    with pytest.raises(ValueError, match="for good"):
        await retry_while_away(work)
