"""Bound how many dimensions the values of a graph have, before anything computes their shapes. Pure functions.

A few bytes can add dimensions to a value at each step, and whoever computes shapes keeps all of them for every value.
The product of many large sizes is a number that takes minutes to compute, during which no other thread runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx import GraphProto, NodeProto

RANK_MAX = 16  # of networks for pictures, sound and video: 5

_ADDS, _SETS = "Unsqueeze", "Reshape"  # as many dimensions as their second input has numbers
_SHOWN = 80  # characters of a name


def check_ranks(graph: GraphProto) -> None:
    """Check that no value of ``graph``, declared or computed, can have more than 16 dimensions.

    What is computed is followed from step to step by an upper bound: no step but Unsqueeze and Reshape gives a value
    more dimensions than the values that it takes have. Values that no earlier step computes are left to ONNX's checker.

    Raises:
        ValueError: one can have more, or a step computes to what shape it reshapes; the message names it.
    """
    ranks, numbers = dict[str, int](), dict[str, int]()
    for weight in graph.initializer:
        ranks[weight.name] = max(_checked(weight.name, len(weight.dims)), ranks.get(weight.name, 0))
        numbers[weight.name] = max(math.prod(weight.dims), numbers.get(weight.name, 0))
    for value in (*graph.value_info, *graph.output, *graph.input):
        declared = _checked(value.name, len(value.type.tensor_type.shape.dim))
        ranks[value.name] = max(declared, ranks.get(value.name, 0))
    for node in graph.node:
        rank = _rank_of(node, ranks, numbers)
        for name in node.output:
            ranks[name] = max(_checked(name, rank), ranks.get(name, 0))


def _rank_of(node: NodeProto, ranks: Mapping[str, int], numbers: Mapping[str, int]) -> int:
    """Return how many dimensions the outputs of a step have at most."""
    taken = [ranks.get(name, 0) for name in node.input]
    if node.op_type not in {_ADDS, _SETS} or len(node.input) < 2:
        return max(taken, default=0)
    if node.input[1] not in numbers:
        raise ValueError(f"{node.op_type} {node.name[:_SHOWN]!r} computes the dimensions: give them as a constant")
    return numbers[node.input[1]] + (taken[0] if node.op_type == _ADDS else 0)


def _checked(name: str, rank: int) -> int:
    if rank > RANK_MAX:
        raise ValueError(f"{name[:_SHOWN]!r} has {rank:,} dimensions, more than {RANK_MAX}: reshape it to fewer")
    return rank
