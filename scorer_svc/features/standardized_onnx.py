"""Build the ONNX graph that standardises numbers and turns categories into indicators. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from scorer_svc.features.onnx_chain import INPUT, OUTPUT, Chain, graph_bytes, nodes_of

Reals = NDArray[np.float32]
_NO_CATEGORY = -1.0


@dataclass(frozen=True)
class Columns:
    """What becomes of each value of a sample.

    A number is replaced by ``middle`` where it is missing (NaN), less ``middle``, times ``gain``, kept within
    ``reach``, less ``mean``, times ``rescale``. All of these are ``[numbers]``.

    Attributes:
        numbers: Places of the values that are numbers, ``[numbers]``.
        incomplete: Places of the values of which it matters whether they are missing.
        missing_share: How often each of these is missing.
        categories: Pairs of a place and how many categories it has.
    """

    numbers: NDArray[np.intp]
    middle: Reals
    gain: Reals
    mean: Reals
    rescale: Reals
    reach: float
    incomplete: NDArray[np.intp]
    missing_share: Reals
    categories: tuple[tuple[int, int], ...]

    @property
    def feature_count(self) -> int:
        return len(self.numbers) + len(self.incomplete) + sum(count for _, count in self.categories)


def standardized_graph(columns: Columns, value_count: int, dtype: str, *, may_lack: bool) -> bytes:
    """Build the graph from samples of ``value_count`` values to features: numbers, indicators of missing values, and
    an indicator of each category, all of which are 0 for a category that is missing or unknown.

    ``may_lack`` says whether values may be missing; without that, every value must be a number.
    """
    chain: Chain = [("Cast", [INPUT], "values", {"to": TensorProto.FLOAT})]
    weights: dict[str, Any] = {}
    whole = "values"
    if may_lack:
        fill = np.full(value_count, _NO_CATEGORY, np.float32)
        fill[columns.numbers] = columns.middle
        chain += [("IsNaN", ["values"], "lacks", {}), ("Where", ["lacks", "fill", "values"], "filled", {})]
        weights["fill"], whole = fill, "filled"
    parts = []
    for part, further in (
        _numbers(columns, whole, value_count),
        _incomplete(columns, value_count),
        _categories(columns, whole, value_count),
    ):
        if part:
            chain += part
            weights |= further
            parts.append(part[-1][2])
    join = helper.make_node("Concat", parts, [OUTPUT], axis=1)
    nodes = [*nodes_of(chain), join]
    return graph_bytes("standardized_features", nodes, weights, dtype, value_count, columns.feature_count)


def _numbers(columns: Columns, whole: str, value_count: int) -> tuple[Chain, dict[str, Any]]:
    if not len(columns.numbers):
        return [], {}
    chain: Chain = []
    weights: dict[str, Any] = {
        "middle": columns.middle,
        "gain": columns.gain,
        "least": np.float32(-columns.reach),
        "most": np.float32(columns.reach),
        "mean": columns.mean,
        "rescale": columns.rescale,
    }
    if len(columns.numbers) < value_count:
        chain.append(("MatMul", [whole, "which_numbers"], "numbers", {}))
        weights["which_numbers"], whole = _picked(columns.numbers, value_count), "numbers"
    chain += [
        ("Sub", [whole, "middle"], "from_middle", {}),
        ("Mul", ["from_middle", "gain"], "spread", {}),
        ("Clip", ["spread", "least", "most"], "within", {}),
        ("Sub", ["within", "mean"], "centred", {}),
        ("Mul", ["centred", "rescale"], "scaled", {}),
    ]
    return chain, weights


def _incomplete(columns: Columns, value_count: int) -> tuple[Chain, dict[str, Any]]:
    if not len(columns.incomplete):
        return [], {}
    chain: Chain = [
        ("Cast", ["lacks"], "lacking", {"to": TensorProto.FLOAT}),
        ("MatMul", ["lacking", "which_incomplete"], "incomplete", {}),
        ("Sub", ["incomplete", "missing_share"], "missing", {}),
    ]
    picked = _picked(columns.incomplete, value_count)
    return chain, {"which_incomplete": picked, "missing_share": columns.missing_share}


def _categories(columns: Columns, whole: str, value_count: int) -> tuple[Chain, dict[str, Any]]:
    if not columns.categories:
        return [], {}
    places = np.concatenate([np.full(count, place) for place, count in columns.categories])
    codes = np.concatenate([np.arange(count, dtype=np.float32) for _, count in columns.categories])
    chain: Chain = [
        ("MatMul", [whole, "which_categories"], "chosen", {}),
        ("Equal", ["chosen", "codes"], "same", {}),
        ("Cast", ["same"], "indicators", {"to": TensorProto.FLOAT}),
    ]
    return chain, {"which_categories": _picked(places, value_count), "codes": codes}


def _picked(places: NDArray[np.intp], value_count: int) -> Reals:
    """Return the matrix ``[value_count, places]`` by which a product picks values, exactly."""
    matrix = np.zeros((value_count, len(places)), np.float32)
    matrix[places, np.arange(len(places))] = 1
    return matrix
