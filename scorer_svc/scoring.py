"""Posted images scored: small requests at once, large ones in a thread."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Any

from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

from scorer_svc.backlog import Backlog
from scorer_svc.images import Classifier, answer, read_images

_INLINE_WORK_MAX = 256 * 784  # a tenth of a millisecond; more would hold up health checks and small requests


class Scoring:
    """``executor`` has one thread. A call that is cancelled, as at its deadline, before its turn is not computed."""

    def __init__(self, executor: Executor) -> None:
        self._executor, self._backlog = executor, Backlog()

    async def score(self, request: pb.ScoreRequest, model: Classifier, digest: str) -> pb.ScoreResponse:
        """InvalidInput where ``model`` cannot classify what was posted, LimitExceeded where it would wait too long."""
        images = read_images(request, model)
        work = len(images) * model.work
        if work <= _INLINE_WORK_MAX:
            return answer(digest, model.classify(images), request.with_probabilities)
        with self._backlog.taken(work):
            response, seconds = await asyncio.get_running_loop().run_in_executor(
                self._executor, _timed_answer, digest, model, images, request.with_probabilities
            )
        self._backlog.note(work, seconds)
        return response


def _timed_answer(
    digest: str, model: Classifier, images: NDArray[Any], with_probabilities: bool
) -> tuple[pb.ScoreResponse, float]:
    """The answer, and the seconds it took."""
    began = time.monotonic()
    response = answer(digest, model.classify(images), with_probabilities)
    return response, time.monotonic() - began
