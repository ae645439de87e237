"""Samples as annotators and tools get them: within the request, or by a link to the oracle where they are large."""

from __future__ import annotations

import asyncio

import structlog
from labelloop.oracle.v1.oracle_pb2 import LabelRequest
from labelloop.wire.errors import LabelloopError, NotFound, WrongState
from labelloop.wire.run_book import RunBook

from oracle_svc.asking import Ask, request_of
from oracle_svc.desk import Desk
from oracle_svc.pictures import Picture, picture_of
from oracle_svc.shelf import Shelf
from oracle_svc.web.links import Links

INLINE_BYTES_MAX = 128 * 1024
_AT_ONCE_BYTES_MAX = 64 * 1024  # of pixels: more of them hold up the event loop for a millisecond or longer

log = structlog.get_logger()


class Samples:
    """What takes more than ``inline_bytes_max`` bytes is sent as a link; everything is sent whole without ``links``."""

    def __init__(self, shelf: Shelf, links: Links | None = None, inline_bytes_max: int = INLINE_BYTES_MAX) -> None:
        self._shelf, self._links, self._inline_bytes_max = shelf, links, inline_bytes_max

    async def request(self, desk: Desk, ask: Ask) -> LabelRequest:
        """Errors as in :meth:`picture`."""
        picture = await self.picture(desk, ask.sample_id)
        request = request_of(desk, ask, picture.media_type, picture.sha256)
        if self._links and len(picture.content) > self._inline_bytes_max:
            request.uri = self._links.uri(desk.run_id, ask.sample_id)
        else:
            request.content = picture.content
        return request

    async def picture(self, desk: Desk, sample_id: int) -> Picture:
        """InvalidInput and the like where the dataset is gone, WrongState where it is shorter than it was."""
        dataset = await self._shelf.get(desk.spec.dataset)
        if sample_id >= len(dataset.samples):
            message = f"the dataset of run {desk.run_id!r} has {len(dataset.samples)} samples, and none {sample_id}"
            raise WrongState("DATASET_CHANGED", message, run_id=desk.run_id, sample_id=sample_id)
        sample = dataset.samples[sample_id]
        if sample.nbytes <= _AT_ONCE_BYTES_MAX:
            return picture_of(sample)
        return await asyncio.to_thread(picture_of, sample)


class AskedSamples:
    """The samples that runs ask people about, and no others: what links lead to."""

    def __init__(self, book: RunBook[Desk], samples: Samples) -> None:
        self._book, self._samples = book, samples

    async def picture(self, run_id: str, sample_id: int) -> Picture:
        """NotFound for a run that is not labelled by people, for a sample that it never asked for, and for one that
        cannot be read: what is wrong with it is said in the log, to whoever runs the oracle."""
        desk = self._book.get(run_id)
        if not desk.for_people or not (sample_id in desk.answers.rounds or sample_id in desk.gold):
            message = f"run {run_id!r} does not ask people for sample {sample_id}"
            raise NotFound("NOT_ASKED_FOR", message, run_id=run_id, sample_id=sample_id)
        try:
            return await self._samples.picture(desk, sample_id)
        except LabelloopError as error:
            log.warning(
                "a sample cannot be shown", run=run_id, sample=sample_id, reason=error.reason, problem=error.message
            )
            message = f"sample {sample_id} of run {run_id!r} cannot be read: see the oracle's log"
            raise NotFound("SAMPLE_GONE", message, run_id=run_id, sample_id=sample_id) from error
