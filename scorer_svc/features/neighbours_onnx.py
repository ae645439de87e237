"""Write the steps of an ONNX graph that locate samples among landmarks. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, helper

from scorer_svc.features.onnx_chain import Chain, nodes_of
from scorer_svc.features.spectral_embedding import NOTHING, SHARPNESS, Neighbourhood


def located(
    neighbourhood: Neighbourhood, given: str, output: str, mark: str = ""
) -> tuple[list[NodeProto], dict[str, Any]]:
    """Build the nodes and weights that compute coordinates: see :mod:`scorer_svc.features.spectral_embedding`.

    All names but ``given`` and ``output`` begin with ``mark``, so that one graph can have several.
    """
    nodes, weights = _steps(neighbourhood, given, output)
    for node in nodes:
        node.input[:] = [name if name == given else mark + name for name in node.input]
        node.output[:] = [name if name == output else mark + name for name in node.output]
    return nodes, {mark + name: value for name, value in weights.items()}


def _steps(neighbourhood: Neighbourhood, given: str, output: str) -> tuple[list[NodeProto], dict[str, Any]]:
    distances: Chain = [
        ("MatMul", [given, "onto"], "projected", {}),
        ("Sub", ["projected", "middle"], "place", {}),
        ("Mul", ["place", "place"], "place_squares", {}),
        ("ReduceSum", ["place_squares", "along"], "place_length", {"keepdims": 1}),
        ("MatMul", ["place", "minus_twice_landmarks"], "crossed", {}),
        ("Add", ["crossed", "place_length"], "partly_apart", {}),
        ("Add", ["partly_apart", "landmark_lengths"], "about_apart", {}),
        ("Relu", ["about_apart"], "apart", {}),
        ("Div", ["apart", "widths"], "relative", {}),
    ]
    near = helper.make_node("TopK", ["relative", "neighbours"], ["near", "which"], axis=1, largest=0, sorted=0)
    mean: Chain = [
        ("ReduceMax", ["near"], "twentieth", {"axes": [1], "keepdims": 1}),
        ("Max", ["twentieth", "reach_min"], "reach", {}),
        ("Div", ["relative", "reach"], "steps", {}),
        ("Mul", ["steps", "minus_sharpness"], "exponents", {}),
        ("Exp", ["exponents"], "kernels", {}),
        ("Sub", ["kernels", "kernel_at_reach"], "about_weights", {}),
        ("Relu", ["about_weights"], "single_weights", {}),
        ("Mul", ["single_weights", "copies"], "weights", {}),
        ("ReduceSum", ["weights", "along"], "sum", {"keepdims": 1}),
        ("Max", ["sum", "nothing"], "whole", {}),
        ("Div", ["weights", "whole"], "shares", {}),
        ("MatMul", ["shares", "landmark_coordinates"], output, {}),
    ]
    landmarks = neighbourhood.landmarks
    return [*nodes_of(distances), near, *nodes_of(mean)], {
        "onto": neighbourhood.onto,
        "middle": neighbourhood.mean @ neighbourhood.onto,
        "along": np.array([1], np.int64),
        "minus_twice_landmarks": np.ascontiguousarray(-2 * landmarks.T),
        "landmark_lengths": (landmarks**2).sum(axis=1),
        "widths": neighbourhood.widths,
        "copies": neighbourhood.copies,
        "neighbours": np.array([neighbourhood.neighbours], np.int64),
        "reach_min": np.float32(neighbourhood.reach_min),
        "minus_sharpness": np.float32(-SHARPNESS),
        "kernel_at_reach": np.exp(np.float32(-SHARPNESS)),
        "nothing": np.float32(NOTHING),
        "landmark_coordinates": neighbourhood.coordinates,
    }
