"""Make the outputs of the Open Inference Protocol out of answers of ``Score``. Pure functions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from labelloop.errors import InvalidInput
from labelloop.scorer.v1 import scorer_pb2 as pb
from numpy.typing import NDArray

PREDICTED, CONFIDENCE, PROBABILITIES = NAMES = ("predicted", "confidence", "probabilities")
"""The class with the highest probability, that probability, and the probabilities of all classes."""
OUTPUT_DATATYPES = {PREDICTED: "INT64", CONFIDENCE: "FP32", PROBABILITIES: "FP32"}


class Output(NamedTuple):
    """A tensor of an answer.

    Attributes:
        name: its name.
        values: the elements, ``[n]`` or ``[n, classes]``, of int64 or float32.
    """

    name: str
    values: NDArray[Any]


def wanted_outputs(asked: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the outputs to give, in the order asked for; all if none is asked for.

    Raises:
        InvalidInput: A name is unknown, or asked for twice.
    """
    if not asked:
        return NAMES
    for place, name in enumerate(asked):
        if name not in OUTPUT_DATATYPES:
            message = f"the model gives no output {name[:100]!r}: it gives {', '.join(NAMES)}"
            raise InvalidInput("UNKNOWN_OUTPUT", message, field="outputs", posted=name[:100])
        if name in asked[:place]:
            raise InvalidInput("DOUBLE_OUTPUT", f"output {name!r} is asked for twice", field="outputs", posted=name)
    return tuple(asked)


def raw_outputs(response: pb.ScoreResponse, names: Sequence[str]) -> list[bytes]:
    """Return the elements of each output, in little-endian order."""
    if len(response.predicted) > 1:
        return [each.values.tobytes() for each in outputs_of(response, names)]
    probabilities, confidence = response.probabilities, response.confidence
    made = {  # in a third of the time that arrays take
        PREDICTED: lambda: struct.pack("<q", response.predicted[0]),
        CONFIDENCE: lambda: struct.pack("<f", confidence[0]),
        PROBABILITIES: lambda: struct.pack(f"<{len(probabilities)}f", *probabilities),
    }
    return [made[name]() for name in names]


def outputs_of(response: pb.ScoreResponse, names: Sequence[str]) -> list[Output]:
    """Return the outputs of a response as arrays."""
    count = len(response.predicted)
    arrays: dict[str, NDArray[Any]] = {}
    if PREDICTED in names:
        arrays[PREDICTED] = np.array(response.predicted, "<i8")
    if CONFIDENCE in names:
        arrays[CONFIDENCE] = np.array(response.confidence, "<f4")
    if PROBABILITIES in names:
        arrays[PROBABILITIES] = np.array(response.probabilities, "<f4").reshape(count, -1)
    return [Output(name, arrays[name]) for name in names]
