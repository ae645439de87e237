"""Build the ONNX graph that computes patch features from flat images. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from scorer_svc.features.onnx_chain import INPUT, OUTPUT, Chain, graph_bytes, nodes_of
from scorer_svc.features.spectral_embedding import NEIGHBOURS, NOTHING, SHARPNESS, Neighbourhood

_AREA_MAX = 48 * 48  # pixels; for more, the activations of all vectors take more than 4 MB an image
_POOLED_SIDE_MIN = 8


@dataclass(frozen=True)
class Bank:
    """A learned bank of patch vectors and the image shape that it applies to.

    Large images are averaged as :func:`pooling` says before patches are cut from them.

    Attributes:
        kernel: ``[vectors, side, side, channels]``; each vector sums to 0.
        bias: ``[vectors]``.
        flat_variance: added to the variance of each patch.
        image_shape: ``[height, width, channels]``.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    flat_variance: float
    image_shape: tuple[int, ...]

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of patch positions in an image."""
        height, width, _ = self.image_shape
        down, across = pooling(height, width)
        side = self.kernel.shape[1]
        return height // down - side + 1, width // across - side + 1

    @property
    def feature_count(self) -> int:
        return 4 * len(self.kernel)


@dataclass(frozen=True)
class Given:
    """How samples come in: their dtype, uint8 or float32, whether channels are first, and the value of white."""

    dtype: str = "uint8"
    channels_first: bool = False
    full_scale: float = 255.0


_BYTES = Given()


def pooling(height: int, width: int) -> tuple[int, int]:
    """Return how many pixels down and across are averaged into one before patches are cut.

    1 and 1 for images of up to 48 x 48 pixels, or as many pixels in another shape. For larger images, the smallest
    equal numbers that reduce them to that many, but no side to less than 8 pixels. Pixels at the right and the bottom
    that do not fill a whole cell are left out.
    """
    for factor in count(1):
        down, across = (min(factor, max(1, side // _POOLED_SIDE_MIN)) for side in (height, width))
        if (height // down) * (width // across) <= _AREA_MAX:
            return down, across
    raise AssertionError("sides of 8 to 15 pixels are small enough")


def raw_graph(bank: Bank) -> bytes:
    """Build the graph of raw features: square roots of mean activations in ``[vectors, 2, 2]`` quadrants, flat."""
    nodes, weights = _nodes(bank, OUTPUT)
    return _to_bytes(bank, nodes, weights)


def bank_graph(
    bank: Bank,
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    neighbourhood: Neighbourhood | None = None,
    given: Given = _BYTES,
) -> bytes:
    """Build the graph of scaled features, followed by coordinates if there is a ``neighbourhood``.

    Raw features less ``mean`` ``[features]`` are multiplied by ``scale`` ``[features]``. The graph takes samples as
    they are ``given`` and brings them to ``[height, width, channels]`` from 0 to 255, the scale of the bank.
    """
    nodes, weights = _nodes(bank, "roots", given)
    scaled = "patches" if neighbourhood else OUTPUT
    nodes += [
        helper.make_node("Sub", ["roots", "mean_feature"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], [scaled]),
    ]
    weights |= {"mean_feature": mean, "scale": scale}
    if not neighbourhood:
        return _to_bytes(bank, nodes, weights, given=given)
    located, among = _located(neighbourhood, scaled, "coordinates")
    nodes += [*located, helper.make_node("Concat", [scaled, "coordinates"], [OUTPUT], axis=1)]
    return _to_bytes(bank, nodes, weights | among, neighbourhood.coordinates.shape[1], given)


def _located(neighbourhood: Neighbourhood, given: str, output: str) -> tuple[list[NodeProto], dict[str, Any]]:
    """Build the nodes and weights that compute coordinates: see :mod:`scorer_svc.features.spectral_embedding`."""
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
        "neighbours": np.array([NEIGHBOURS], np.int64),
        "reach_min": np.float32(neighbourhood.reach_min),
        "minus_sharpness": np.float32(-SHARPNESS),
        "kernel_at_reach": np.exp(np.float32(-SHARPNESS)),
        "nothing": np.float32(NOTHING),
        "landmark_coordinates": neighbourhood.coordinates,
    }


def _nodes(bank: Bank, output: str, given: Given = _BYTES) -> tuple[list[NodeProto], dict[str, Any]]:
    """Build the nodes and weights that compute raw features.

    A patch's variance is the mean of its squares less the square of its mean; both are convolutions. Each vector of the
    kernel sums to 0, so the mean need not be subtracted first.
    """
    height, width, channels = bank.image_shape
    vectors, side, _, _ = bank.kernel.shape
    down, across = pooling(height, width)
    rows, columns = bank.places
    pooled = {"kernel_shape": [-(-rows // 2), -(-columns // 2)], "strides": [max(1, rows // 2), max(1, columns // 2)]}
    whole = {"kernel_shape": [down, across], "strides": [down, across]}
    averaged: Chain = [] if (down, across) == (1, 1) else [("AveragePool", ["pixels"], "image", whole)]
    opening, sizes = _opened(bank, given, "pixels" if averaged else "image")
    chain: Chain = [
        *opening,
        *averaged,
        ("Mul", ["image", "image"], "squares", {}),
        ("Conv", ["image", "average"], "mean", {}),
        ("Conv", ["squares", "average"], "mean_square", {}),
        ("Mul", ["mean", "mean"], "square_of_mean", {}),
        ("Sub", ["mean_square", "square_of_mean"], "difference", {}),
        ("Relu", ["difference"], "variance", {}),
        ("Add", ["variance", "flat_variance"], "raised", {}),
        ("Sqrt", ["raised"], "deviation", {}),
        ("Conv", ["image", "kernel"], "products", {}),
        ("Div", ["products", "deviation"], "normalised", {}),
        ("Add", ["normalised", "bias"], "above", {}),
        ("Relu", ["above"], "active", {}),
        ("AveragePool", ["active"], "pooled", pooled),
        ("Flatten", ["pooled"], "flat", {"axis": 1}),
        ("Sqrt", ["flat"], output, {}),
    ]
    weights = {
        **sizes,
        "average": np.full((1, channels, side, side), 1 / (channels * side * side), np.float32),
        "flat_variance": np.float32(bank.flat_variance),
        "kernel": np.ascontiguousarray(bank.kernel.transpose(0, 3, 1, 2), np.float32),
        "bias": bank.bias.astype(np.float32).reshape(1, vectors, 1, 1),
    }
    return nodes_of(chain), weights


def _opened(bank: Bank, given: Given, output: str) -> tuple[Chain, dict[str, Any]]:
    """Build the chain from samples as they are given to pixels ``[n, channels, height, width]`` from 0 to 255."""
    height, width, channels = bank.image_shape
    scaled = given.full_scale != _BYTES.full_scale
    shape = (0, channels, height, width) if given.channels_first else (0, height, width, channels)
    chain: Chain = [("Cast", [INPUT], "given" if scaled else "values", {"to": TensorProto.FLOAT})]
    weights: dict[str, Any] = {"image_shape": np.array(shape, np.int64)}
    if scaled:
        chain.append(("Mul", ["given", "white"], "values", {}))
        weights["white"] = np.float32(_BYTES.full_scale / given.full_scale)
    if given.channels_first:
        return [*chain, ("Reshape", ["values", "image_shape"], output, {})], weights
    chain.append(("Reshape", ["values", "image_shape"], "rows", {}))
    return [*chain, ("Transpose", ["rows"], output, {"perm": [0, 3, 1, 2]})], weights


def _to_bytes(
    bank: Bank, nodes: list[NodeProto], weights: dict[str, Any], coordinates: int = 0, given: Given = _BYTES
) -> bytes:
    values, features = int(np.prod(bank.image_shape)), bank.feature_count + coordinates
    return graph_bytes("patch_features", nodes, weights, given.dtype, values, features)
