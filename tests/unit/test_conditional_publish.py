"""Several clients that create the same stream at once."""

from __future__ import annotations

import pytest
from labelloop.eventlog.conditional_publish import read_or_make
from nats.js.errors import BadRequestError, NotFoundError

OVERLAP, NAME_IN_USE, INVALID = 10065, 10058, 10052


class Broker:
    """Another client creates a stream between our read and our create request; ``made`` says whether under our
    name."""

    def __init__(self, err_code: int, *, made: bool) -> None:
        self.err_code, self.made, self.looks = err_code, made, 0

    async def read(self) -> str:
        self.looks += 1
        if self.looks == 1 or not self.made:
            raise NotFoundError
        return "theirs"

    async def make(self) -> str:
        raise BadRequestError(code=400, err_code=self.err_code)


@pytest.mark.parametrize("err_code", [OVERLAP, NAME_IN_USE])
async def test_stream_created_meanwhile_is_read(err_code: int) -> None:
    broker = Broker(err_code, made=True)
    assert await read_or_make(broker.read, broker.make) == "theirs"


@pytest.mark.parametrize(("err_code", "made"), [(OVERLAP, False), (INVALID, True)])
async def test_overlap_or_invalid_settings_remain_errors(err_code: int, made: bool) -> None:
    broker = Broker(err_code, made=made)
    with pytest.raises(BadRequestError, match=str(err_code)):
        await read_or_make(broker.read, broker.make)
