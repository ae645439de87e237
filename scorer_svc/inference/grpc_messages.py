"""Read and write messages of the Open Inference Protocol over gRPC. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from labelloop.errors import InvalidInput
from labelloop.inference.v2 import inference_pb2 as pb

from scorer_svc.inference.naming import Named
from scorer_svc.inference.outputs import OUTPUT_DATATYPES, PROBABILITIES, wanted_outputs
from scorer_svc.inference.parameters import check_parameters
from scorer_svc.inference.tensors import Tensor, as_text, check_text_count, texts_of

_CONTENTS = {"UINT8": "uint_contents", "FP32": "fp32_contents", "BYTES": "bytes_contents"}
_ID, _RAW, _ANSWER = b"\x1a", b"\x32", b"\x12"  # tags of fields: id, raw_output_contents; infer_response
_HEADS_KEPT = 1_024


class GrpcTensor:
    """A posted tensor; ``raw`` are its elements, None if they are in its contents."""

    def __init__(self, posted: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> None:
        self.name, self.datatype = posted.name, posted.datatype
        self.shape: Sequence[int] = posted.shape
        self._posted, self._raw = posted, raw
        is_bytes = raw is not None and posted.datatype != "BYTES"
        self.value_count = 0 if is_bytes else (len(raw) // 4 if raw is not None else self._held())

    def _held(self) -> int:
        return sum(len(values) for _, values in self._posted.contents.ListFields())

    def read(self, count: int) -> Tensor:
        """Read the elements. InvalidInput if there are not ``count`` of them, or in a field for another type."""
        values = self._typed(count) if self._raw is None else self._raw
        if isinstance(values, bytes) and self.datatype == "BYTES":
            values = texts_of(values, count)
        return Tensor(self.name, self.datatype, self.shape, values)

    def _typed(self, count: int) -> bytes | list[str]:
        field = _CONTENTS[self.datatype]
        if others := [each.name for each, _ in self._posted.contents.ListFields() if each.name != field]:
            message = f"input {self.name!r} of {self.datatype} has {', '.join(others)}: its elements go into {field}"
            raise InvalidInput("WRONG_CONTENTS", message, field="inputs")
        held: Any = getattr(self._posted.contents, field)
        if len(held) != count:
            message = f"input {self.name!r} holds {len(held):,} elements: its shape takes {count:,}"
            raise InvalidInput("WRONG_SIZE", message, field="inputs", posted=len(held), taken=count)
        if self.datatype == "BYTES":
            check_text_count(count)
            return [as_text(each, place) for place, each in enumerate(held)]
        if self.datatype == "FP32":
            return np.array(held, "<f4").tobytes()
        numbers = np.array(held, np.uint32)
        if (numbers > 255).any():
            raise InvalidInput("BAD_VALUES", f"input {self.name!r} of UINT8 holds values above 255", field="inputs")
        return numbers.astype(np.uint8).tobytes()


def inputs_of(request: pb.ModelInferRequest) -> list[GrpcTensor]:
    """Return the tensors of a request.

    Raises:
        InvalidInput: Their elements are missing or given twice, or they have parameters that are not known.
    """
    if request.parameters:
        check_parameters("parameters", "", values_of(request.parameters))
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        message = (
            f"raw_input_contents has {len(raw)} tensors: there must be one for each of {len(request.inputs)} inputs"
        )
        raise InvalidInput("BAD_INPUTS", message, field="raw_input_contents", posted=len(raw))
    for each in request.inputs:
        if each.parameters:
            check_parameters("inputs", each.name, values_of(each.parameters))
        if raw and each.HasField("contents"):
            message = f"the elements of input {each.name[:100]!r} are given twice, in contents and raw_input_contents"
            raise InvalidInput("BAD_INPUTS", message, field="raw_input_contents")
    return [GrpcTensor(each, raw[place] if raw else None) for place, each in enumerate(request.inputs)]


def outputs_asked(request: pb.ModelInferRequest) -> tuple[str, ...]:
    """Return the names of the outputs to give. InvalidInput for unknown ones and for unknown parameters."""
    names = []
    for each in request.outputs:
        names.append(each.name)
        if each.parameters:
            check_parameters("outputs", each.name, values_of(each.parameters))
    return wanted_outputs(names)


def response_bytes(named: Named, count: int, names: tuple[str, ...], raw: Sequence[bytes], id_: str) -> bytes:
    """Return the ModelInferResponse about ``count`` samples, as it is sent; ``raw`` are the elements of outputs."""
    classes = len(raw[names.index(PROBABILITIES)]) // (4 * count) if PROBABILITIES in names else 0
    parts = [_head(named, names, count, classes)]
    if id_:
        data = id_.encode()
        parts += (_ID, _varint(len(data)), data)
    for each in raw:
        parts += (_RAW, _varint(len(each)), each)
    return b"".join(parts)


@lru_cache(_HEADS_KEPT)
def _head(named: Named, names: tuple[str, ...], count: int, classes: int) -> bytes:
    """Return all of a response but its id and elements, which differ from answer to answer."""
    response = pb.ModelInferResponse(model_name=named.name, model_version=named.version)
    response.parameters["model_sha256"].string_param = named.digest
    for name in names:
        shape = [count, classes] if name == PROBABILITIES else [count]
        response.outputs.add(name=name, datatype=OUTPUT_DATATYPES[name], shape=shape)
    return response.SerializeToString()


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def streamed(response: bytes) -> bytes:
    """Return the ModelStreamInferResponse with a response."""
    return b"".join((_ANSWER, _varint(len(response)), response))


def refused(id_: str, message: str) -> bytes:
    """Return the ModelStreamInferResponse for a request that cannot be answered."""
    refusal = pb.ModelStreamInferResponse(error_message=message)
    refusal.infer_response.id = id_
    return refusal.SerializeToString()


def values_of(parameters: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    """Return parameters by name; None for one without a value."""
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in parameters.items()}
    return {name: getattr(parameters[name], field) if field else None for name, field in chosen.items()}
