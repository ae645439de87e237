"""Build the ONNX graph that computes patch features from flat images. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from scorer_svc.features.neighbours_onnx import located
from scorer_svc.features.onnx_chain import OUTPUT, Chain, graph_bytes, nodes_of
from scorer_svc.features.picture_input import BYTES, Given, opened, pooling
from scorer_svc.features.spectral_embedding import Neighbourhood


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


def raw_graph(bank: Bank) -> bytes:
    """Build the graph of raw features: square roots of mean activations in ``[vectors, 2, 2]`` quadrants, flat."""
    nodes, weights = _nodes(bank, OUTPUT)
    return _to_bytes(bank, nodes, weights)


def bank_graph(
    bank: Bank,
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    neighbourhood: Neighbourhood | None = None,
    given: Given = BYTES,
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
    steps, among = located(neighbourhood, scaled, "coordinates")
    nodes += [*steps, helper.make_node("Concat", [scaled, "coordinates"], [OUTPUT], axis=1)]
    return _to_bytes(bank, nodes, weights | among, neighbourhood.coordinates.shape[1], given)


def _nodes(bank: Bank, output: str, given: Given = BYTES) -> tuple[list[NodeProto], dict[str, Any]]:
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
    opening, sizes = opened(bank.image_shape, given, "pixels" if averaged else "image")
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


def _to_bytes(
    bank: Bank, nodes: list[NodeProto], weights: dict[str, Any], coordinates: int = 0, given: Given = BYTES
) -> bytes:
    values, features = int(np.prod(bank.image_shape)), bank.feature_count + coordinates
    return graph_bytes("patch_features", nodes, weights, given.dtype, values, features)
