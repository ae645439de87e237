"""Check tensors of the Open Inference Protocol, and make requests for ``Score`` of them. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from labelloop.domain.limits import TEXT_DTYPE
from labelloop.errors import InvalidInput
from labelloop.scorer.v1 import scorer_pb2 as pb

DTYPES = {"UINT8": "uint8", "FP32": "float32", "BYTES": TEXT_DTYPE}
"""The types of elements that models take, and what labelloop calls them."""
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
ELEMENT_BYTES = {"UINT8": 1, "FP32": 4}
_DIMENSIONS_MAX = 16
_TEXTS_MAX = 65_536  # read one by one; how many a model takes is checked where it is asked
_LENGTH_BYTES = 4


class Takes(Protocol):
    """What a model takes.

    Attributes:
        input_name: name of the one input.
        feature_count: values of a sample; 1 for texts.
        dtype: "uint8", "float32" or "utf8".
    """

    input_name: str
    feature_count: int
    dtype: str


class Tensor(NamedTuple):
    """A posted tensor.

    Attributes:
        name: its name.
        datatype: UINT8, FP32 or BYTES.
        shape: sizes of its dimensions.
        values: the elements row by row, in little-endian order; texts of BYTES.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: bytes | Sequence[str]


def sample_count(name: str, datatype: str, shape: Sequence[int], model: Takes, sample_shape: Sequence[int]) -> int:
    """Return how many samples a tensor of this kind holds; call it before its elements are read.

    Args:
        sample_shape: the shape of a sample; ``[n, values]`` is taken too.

    Raises:
        InvalidInput: ``model`` does not take such a tensor.
    """
    if name != model.input_name:
        message = f"the model takes no input {name[:100]!r}: it takes {model.input_name!r} alone"
        raise InvalidInput("UNKNOWN_INPUT", message, field="inputs", posted=name[:100], known=model.input_name)
    dtype = DTYPES.get(datatype)
    if dtype is None or (dtype == TEXT_DTYPE) != (model.dtype == TEXT_DTYPE):
        raise _wrong_datatype(datatype, model)
    return _count(shape, model, sample_shape)


def _wrong_datatype(datatype: str, model: Takes) -> InvalidInput:
    taken = DATATYPES[model.dtype] + (" or FP32" if model.dtype == "uint8" else "")
    message = f"input {model.input_name!r} is of {datatype[:100]!r}: the model takes {taken}"
    return InvalidInput("WRONG_DTYPE", message, field="inputs", posted=datatype[:100], taken=taken)


def _count(shape: Sequence[int], model: Takes, sample_shape: Sequence[int]) -> int:
    """Return the first dimension of ``shape``. InvalidInput unless the others are those of a sample."""
    if model.dtype == TEXT_DTYPE:
        known: list[list[int]] = [[], [1]]
    else:
        known = [[model.feature_count], list(sample_shape)]
    if not 1 <= len(shape) <= _DIMENSIONS_MAX or list(shape[1:]) not in known or shape[0] < 1:
        told = " or ".join(str(["n", *each]).replace("'", "") for each in known if each != known[0] or each is known[0])
        shown = ", ".join(map(str, shape[:_DIMENSIONS_MAX])) + (", ..." if len(shape) > _DIMENSIONS_MAX else "")
        message = f"input {model.input_name!r} is of shape [{shown}]: the model takes {told}"
        raise InvalidInput("WRONG_SHAPE", message, field="inputs", posted=f"[{shown}]", taken=told)
    return shape[0]


def check_size(tensor: Tensor) -> None:
    """Raise InvalidInput if there are not as many elements as the shape says."""
    held = len(tensor.values)
    if held != (wanted := math.prod(tensor.shape) * ELEMENT_BYTES.get(tensor.datatype, 1)):
        unit = "texts" if tensor.datatype == "BYTES" else "bytes"
        shape = list(tensor.shape)
        message = (
            f"input {tensor.name!r} holds {held:,} {unit}: its shape {shape} of {tensor.datatype} takes {wanted:,}"
        )
        raise InvalidInput("WRONG_SIZE", message, field="inputs", posted=held, taken=wanted)


def texts_of(raw: bytes, count: int) -> list[str]:
    """Return the ``count`` texts in the elements of a BYTES tensor: each behind its length, an unsigned uint32."""
    check_text_count(count)
    texts, start = list[str](), 0
    for _ in range(count):
        end = start + _LENGTH_BYTES
        length = int.from_bytes(raw[start:end], "little")
        if end > len(raw) or end + length > len(raw):
            message = (
                f"text {len(texts)} is cut off: {len(raw):,} bytes hold no {count:,} texts, each behind its length"
            )
            raise InvalidInput("WRONG_SIZE", message, field="inputs", posted=len(raw), place=len(texts))
        texts.append(as_text(raw[end : end + length], len(texts)))
        start = end + length
    if start != len(raw):
        message = f"{len(raw) - start:,} bytes follow the last of {count:,} texts"
        raise InvalidInput("WRONG_SIZE", message, field="inputs", posted=len(raw), taken=start)
    return texts


def check_text_count(count: int) -> None:
    """Raise InvalidInput for more texts than are read."""
    if count > _TEXTS_MAX:
        message = f"{count:,} texts are too many for one request: post fewer"
        raise InvalidInput("BAD_TEXTS", message, field="inputs", posted=count, most=_TEXTS_MAX)


def as_text(data: bytes, place: int) -> str:
    """Return the text in UTF-8. InvalidInput if it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        message = f"text {place} is not UTF-8: {error.reason} at byte {error.start}"
        raise InvalidInput("NOT_UTF8", message, field="inputs", place=place) from error


def score_request(tensor: Tensor, *, with_probabilities: bool) -> pb.ScoreRequest:
    """Return the request for ``Score`` that asks the same. InvalidInput if the elements do not fit the shape."""
    check_size(tensor)
    if isinstance(tensor.values, bytes):
        dtype = DTYPES[tensor.datatype]
        return pb.ScoreRequest(dtype=dtype, images=tensor.values, with_probabilities=with_probabilities)
    try:
        return pb.ScoreRequest(texts=tensor.values, with_probabilities=with_probabilities)
    except ValueError as error:  # a lone surrogate, which JSON can write and UTF-8 cannot
        message = f"a text of input {tensor.name!r} cannot be written as UTF-8: {error}"
        raise InvalidInput("NOT_UTF8", message, field="inputs") from error
