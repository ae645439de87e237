"""Check posted texts. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import InvalidInput
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

_TEXTS_MAX = 4_096
_CHARACTERS_MAX = 100_000
_WORK_OF_CHARACTER = 1_600  # multiply-adds: cutting a text into tokens takes as long


def read_texts(request: pb.ScoreRequest) -> NDArray[Any]:
    """Return the posted texts ``[n]`` of str. InvalidInput for none, too many or too long ones, and for images."""
    if request.images:
        message = "the model was fitted to texts, and images are posted: post texts"
        raise InvalidInput("WRONG_DTYPE", message, field="images", model_dtype=TEXT_DTYPE)
    if not 1 <= len(request.texts) <= _TEXTS_MAX:
        message = f"texts holds {len(request.texts):,} texts: post 1 to {_TEXTS_MAX:,}"
        raise InvalidInput("BAD_TEXTS", message, field="texts", posted=len(request.texts), most=_TEXTS_MAX)
    for place, text in enumerate(request.texts):
        if len(text) > _CHARACTERS_MAX:
            message = f"text {place} of texts has {len(text):,} characters: post at most {_CHARACTERS_MAX:,} in one"
            raise InvalidInput("TEXT_TOO_LONG", message, field="texts", place=place, most=_CHARACTERS_MAX)
    texts = np.empty(len(request.texts), object)
    texts[:] = request.texts
    return texts


def work_of(texts: NDArray[Any], model_work: int) -> int:
    """Return how much work texts are, in multiply-adds, for a model that takes ``model_work`` for one."""
    return len(texts) * model_work + _WORK_OF_CHARACTER * sum(map(len, texts))
