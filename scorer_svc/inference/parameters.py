"""Refuse parameters of the Open Inference Protocol that would change what is asked. Pure functions.

Others, such as priorities, are hints, and passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from labelloop.errors import InvalidInput

_REFUSED: Mapping[str, Mapping[str, str]] = {
    "inputs": {"shared_memory_region": "shared memory is not read: post the elements"},
    "outputs": {
        "shared_memory_region": "shared memory is not written: take the elements from the answer",
        "classification": "ask for the output `probabilities`, and sort it",
    },
    "parameters": {"sequence_id": "a model knows of no sequences: leave it out"},
}


def check_parameters(where: str, name: str, parameters: Mapping[str, object]) -> None:
    """Raise InvalidInput if any of ``parameters`` is not supported and not zero or empty.

    Args:
        where: "inputs", "outputs", or "parameters" for those of the whole request.
        name: The tensor's name; empty for the whole request.
    """
    for each, advice in _REFUSED[where].items():
        if parameters.get(each):
            of = f" of {name[:100]!r}" if name else ""
            message = f"parameter {each!r}{of} is not supported: {advice}"
            raise InvalidInput("UNSUPPORTED_PARAMETER", message, field=where, parameter=each)
