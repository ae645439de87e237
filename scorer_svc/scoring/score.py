"""Classify posted images and texts: small requests at once, large ones in a thread."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any

from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import LimitExceeded
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from scorer_svc.models.running import stoppable
from scorer_svc.scoring.admission import Backlog
from scorer_svc.scoring.images import Classifier, answer, read_images
from scorer_svc.scoring.texts import read_texts, work_of

_INLINE_WORK_MAX = 6_600_000  # multiply-adds, some tenths of a millisecond; more would delay health checks and others

_CALL_S_MAX = 300.0


class Scoring:
    """Classifies posted images and texts. ``executor`` has one thread.

    A call that is cancelled, as at its deadline, is not computed any further; one without a deadline gets
    ``call_s_max`` seconds.
    """

    def __init__(self, executor: Executor, call_s_max: float = _CALL_S_MAX) -> None:
        self._executor, self._backlog, self._call_s_max = executor, Backlog(), call_s_max

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
