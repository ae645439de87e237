"""Classify posted images and texts: small requests at once, large ones in a thread."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any, Protocol

from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import LimitExceeded
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from scorer_svc.models.running import stoppable
from scorer_svc.row_kernel.kernel import RowKernel
from scorer_svc.scoring.admission import Backlog
from scorer_svc.scoring.answer_bytes import answer_bytes, packed
from scorer_svc.scoring.images import Classifier, answer, best, read_images
from scorer_svc.scoring.texts import read_texts, work_of

_INLINE_WORK_MAX = 6_600_000  # multiply-adds, some tenths of a millisecond; more would delay health checks and others

_CALL_S_MAX = 300.0


class QuickClassifier(Classifier, Protocol):
    """A model that may have a kernel for few images.

    Attributes:
        row_kernel: classifies them in less time, with the same answers; None if there is none, or not yet.
    """

    row_kernel: RowKernel | None

    def wants_row_kernel(self) -> bool:
        """Return whether :meth:`make_row_kernel` should be called, in another thread; true once."""
        ...

    def make_row_kernel(self) -> None:
        """Set ``row_kernel`` if there is one for this model, which may take some tenths of a second."""
        ...


class Scoring:
    """Classifies posted images and texts. ``executor`` has one thread.

    A call that is cancelled, as at its deadline, is not computed any further; one without a deadline gets
    ``call_s_max`` seconds.
    """

    def __init__(self, executor: Executor, call_s_max: float = _CALL_S_MAX) -> None:
        self._executor, self._backlog, self._call_s_max = executor, Backlog(), call_s_max

    def score_at_once(self, request: pb.ScoreRequest, model: QuickClassifier, digest: str) -> bytes | None:
        """Return the bytes of the response to a small request for nothing but classes; None leaves it to :meth:`score`.

        Raises:
            InvalidInput: ``model`` cannot classify the images.
        """
        if request.with_probabilities or model.dtype == TEXT_DTYPE or request.dtype != model.dtype:
            return None
        if kernel := model.row_kernel:
            if not request.texts and (found := kernel.classify(request.images)):
                return answer_bytes(digest, *found)
        elif model.wants_row_kernel():
            self._executor.submit(model.make_row_kernel)
        images = read_images(request, model)
        if len(images) * model.work > _INLINE_WORK_MAX:
            return None
        return answer_bytes(digest, *packed(*best(model.classify(images))))

    async def score(self, request: pb.ScoreRequest, model: Classifier, digest: str) -> pb.ScoreResponse:
        """Classify the images or texts of ``request``.

        Raises:
            InvalidInput: ``model`` cannot classify them.
            LimitExceeded: they would have to wait too long, or take too long.
        """
        if model.dtype == TEXT_DTYPE:
            images = read_texts(request)
            work = work_of(images, model.work)
        else:
            images = read_images(request, model)
            work = len(images) * model.work
        if work <= _INLINE_WORK_MAX and model.is_open_for(request.dtype):
            return answer(digest, model.classify(images), request.with_probabilities)
        try:
            async with asyncio.timeout(self._call_s_max):
                with self._backlog.taken(work):
                    response, seconds = await stoppable(
                        self._executor, _timed_answer, digest, model, images, request.with_probabilities
                    )
        except TimeoutError as error:
            message = f"these {len(images):,} samples take this model more than {self._call_s_max:g} s: post fewer"
            raise LimitExceeded("SCORING_TOO_LONG", message, field="images", posted=len(images)) from error
        self._backlog.note(work, seconds)
        return response


def _timed_answer(
    digest: str, model: Classifier, images: NDArray[Any], with_probabilities: bool
) -> tuple[pb.ScoreResponse, float]:
    """Return the response and the seconds that it took."""
    began = time.monotonic()
    response = answer(digest, model.classify(images), with_probabilities)
    return response, time.monotonic() - began
