"""Add samples to label requests, either inline or, if they are large, as a signed URL of the oracle."""

from __future__ import annotations

import asyncio

import structlog
from labelloop.domain.shown_pool import shown_pool
from labelloop.errors import LabelloopError, NotFound, WrongState
from labelloop.eventlog.projections import RunProjections
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import OpenRequest, request_of
from oracle_svc.samples.encoding import Picture, picture_of
from oracle_svc.samples.originals import display
from oracle_svc.samples.published_pools import PublishedPools, PublishedSample
from oracle_svc.samples.signed_urls import SignedUrls

INLINE_BYTES_MAX = 128 * 1024
GUIDELINES_INLINE_BYTES_MAX = 2 * 1024
"""Longer guidelines are sent as a link: they would be repeated in each request."""
_AT_ONCE_BYTES_MAX = 64 * 1024  # of pixels: encoding more blocks the event loop for a millisecond or longer

log = structlog.get_logger()


class Samples:
    """Encodes samples of published pools and builds the requests that contain or link to them.

    Args:
        pools: The pools as they were published: the files may have changed since.
        links: Signs the URLs of samples; None to send every sample inline.
        inline_bytes_max: Largest encoded sample to send inline, in bytes; a larger one is sent as a link.
    """

    def __init__(
        self, pools: PublishedPools, links: SignedUrls | None = None, inline_bytes_max: int = INLINE_BYTES_MAX
    ) -> None:
        self._pools, self._links, self._inline_bytes_max = pools, links, inline_bytes_max

    async def request(self, labeling: LabelingState, ask: OpenRequest) -> LabelRequest:
        """Build the message for a request, with its sample. Raises the errors of :meth:`picture`."""
        sample = await self._sample(labeling, ask.sample_id)
        picture = await _shown(sample)
        request = request_of(labeling, ask, picture.media_type, picture.sha256)
        request.sample_name = sample.name
        if self._links and len(picture.content) > self._inline_bytes_max:
            request.uri = self._links.uri(labeling.run_id, ask.sample_id)
        else:
            request.content = picture.content
        self._add_guidelines(request, labeling.spec.queue.guidelines)
        return request

    def _add_guidelines(self, request: LabelRequest, guidelines: str) -> None:
        if len(guidelines.encode()) <= GUIDELINES_INLINE_BYTES_MAX:
            request.guidelines = guidelines
        elif self._links:
            request.guidelines_uri = self._links.guidelines_uri(request.run_id)

    async def picture(self, labeling: LabelingState, sample_id: int) -> Picture:
        """Encode a sample of the run's pool, or return the file that people see of it.

        Raises:
            LabelloopError: WrongState if the run has no pool yet, NotFound or Corrupt if an artifact of it is missing
                or damaged, Unready if the artifact store or the cache fails for now.
        """
        return await _shown(await self._sample(labeling, sample_id))

    async def _sample(self, labeling: LabelingState, sample_id: int) -> PublishedSample:
        if labeling.pool is None:
            message = f"the pool of run {labeling.run_id!r} is not published yet"
            raise WrongState("NO_POOL", message, run_id=labeling.run_id)
        return await self._pools.sample(shown_pool(labeling.pool).pool_sha256, sample_id)


async def _shown(sample: PublishedSample) -> Picture:
    if sample.original is not None:
        return await asyncio.to_thread(display, sample.original)
    if isinstance(sample.value, str) or sample.value.nbytes <= _AT_ONCE_BYTES_MAX:
        return picture_of(sample.value, sample.layout)
    return await asyncio.to_thread(picture_of, sample.value, sample.layout)


class AskedSamples:
    """Provides what signed URLs give access to: samples that runs ask annotators to label, and guidelines."""

    def __init__(self, projections: RunProjections[LabelingState], samples: Samples) -> None:
        self._projections, self._samples = projections, samples

    def guidelines(self, run_id: str) -> str:
        """Return the guidelines of a run. Raises NotFound if there is no such run, or if it has none."""
        if text := self._projections.get(run_id).spec.queue.guidelines:
            return text
        raise NotFound("NO_GUIDELINES", f"run {run_id!r} has no guidelines", run_id=run_id)

    async def picture(self, run_id: str, sample_id: int) -> Picture:
        """Encode a requested sample or gold sample of a run.

        Raises:
            NotFound: If there is no such run, if it is not labelled by annotators, if it never asked for the sample, or
                if the sample cannot be read. In the last case the reason is only logged, for the oracle's operator.
        """
        labeling = self._projections.get(run_id)
        if not labeling.for_people or not (sample_id in labeling.answers.rounds or sample_id in labeling.gold):
            message = f"run {run_id!r} does not ask people for sample {sample_id}"
            raise NotFound("NOT_ASKED_FOR", message, run_id=run_id, sample_id=sample_id)
        try:
            return await self._samples.picture(labeling, sample_id)
        except LabelloopError as error:
            log.warning("sample_not_rendered", run=run_id, sample=sample_id, reason=error.reason, problem=error.message)
            message = f"sample {sample_id} of run {run_id!r} cannot be read: see the oracle's log"
            raise NotFound("SAMPLE_GONE", message, run_id=run_id, sample_id=sample_id) from error
