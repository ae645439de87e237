"""Add samples to label requests, either inline or, if they are large, as a signed URL of the oracle."""

from __future__ import annotations

import asyncio

import structlog
from labelloop.errors import LabelloopError, NotFound, WrongState
from labelloop.eventlog.projections import RunProjections
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import OpenRequest, request_of
from oracle_svc.samples.encoding import Picture, picture_of
from oracle_svc.samples.signed_urls import SignedUrls

INLINE_BYTES_MAX = 128 * 1024
_AT_ONCE_BYTES_MAX = 64 * 1024  # of pixels: encoding more blocks the event loop for a millisecond or longer

log = structlog.get_logger()


class Samples:
    """Encodes samples and builds the requests that contain or link to them.

    Args:
        links: Signs the URLs of samples; None to send every sample inline.
        inline_bytes_max: Largest encoded sample to send inline, in bytes; a larger one is sent as a link.
    """

    def __init__(
        self, dataset_cache: DatasetCache, links: SignedUrls | None = None, inline_bytes_max: int = INLINE_BYTES_MAX
    ) -> None:
        self._dataset_cache, self._links, self._inline_bytes_max = dataset_cache, links, inline_bytes_max

    async def request(self, labeling: LabelingState, ask: OpenRequest) -> LabelRequest:
        """Build the message for a request, with its sample. Raises the errors of :meth:`picture`."""
        picture = await self.picture(labeling, ask.sample_id)
        request = request_of(labeling, ask, picture.media_type, picture.sha256)
        if self._links and len(picture.content) > self._inline_bytes_max:
            request.uri = self._links.uri(labeling.run_id, ask.sample_id)
        else:
            request.content = picture.content
        return request

    async def picture(self, labeling: LabelingState, sample_id: int) -> Picture:
        """Encode a sample of the run's dataset.

        Raises:
            LabelloopError: InvalidInput or similar if the dataset can no longer be read, WrongState if it has become
                too short to contain the sample.
        """
        dataset = await self._dataset_cache.get(labeling.spec.dataset)
        if sample_id >= len(dataset.samples):
            message = f"the dataset of run {labeling.run_id!r} has {len(dataset.samples)} samples, and none {sample_id}"
            raise WrongState("DATASET_CHANGED", message, run_id=labeling.run_id, sample_id=sample_id)
        sample = dataset.samples[sample_id]
        if isinstance(sample, str) or sample.nbytes <= _AT_ONCE_BYTES_MAX:
            return picture_of(sample)
        return await asyncio.to_thread(picture_of, sample)


class AskedSamples:
    """Provides the samples that signed URLs give access to: only those that runs ask annotators to label."""

    def __init__(self, projections: RunProjections[LabelingState], samples: Samples) -> None:
        self._projections, self._samples = projections, samples

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
