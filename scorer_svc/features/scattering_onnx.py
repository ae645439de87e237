"""Write the steps of an ONNX graph from pictures to their scattering (Bruna and Mallat 2013). Pure functions.

A picture and halves of it are filtered with wavelets of several orientations; what is kept is how strong the answer is
around each place, its modulus. The moduli of brightness are halved and filtered in turn. All moduli are averaged over a
grid of cells, and the square root is taken. That changes little when a picture is moved or bent a little, and still
tells textures and strokes apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from scorer_svc.features.onnx_chain import Chain, nodes_of
from scorer_svc.features.picture_input import Given, opened, pooling
from scorer_svc.features.scattering_filters import blur, colours, wavelets

_GRID = 4  # cells down and across
_TINY = 1e-6 * 255  # added to averages before the root, whose slope has no bound at 0
_ZERO_PAD = (0, 0, 0, 0)


class Bank(NamedTuple):
    """How many orientations wavelets have, and how many pixels wide and high they are."""

    orientations: int
    side: int


FIRST, SECOND = Bank(6, 7), Bank(6, 5)  # on pictures, and on moduli


@dataclass(frozen=True)
class Pyramid:
    """The sizes of a scattering of pictures ``[height, width, channels]``, which are at least 4 pixels high and wide.

    Large ones are averaged first: see :func:`scorer_svc.features.picture_input.pooling`.

    Attributes:
        shape: of the pictures as they come in.
    """

    shape: tuple[int, ...]

    @property
    def pooling(self) -> tuple[int, int]:
        return pooling(*self.shape[:2])

    @property
    def averaged(self) -> tuple[int, int]:
        """Rows and columns of averaged pictures."""
        (height, width, _), (down, across) = self.shape, self.pooling
        return height // down, width // across

    @property
    def levels(self) -> int:
        """How many scales there are, each half of the one before."""
        side = min(self.averaged)
        return 3 if side >= 20 else 2 if side >= 10 else 1

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns with a border of zeros, so that each half has whole cells."""
        whole = _GRID * 2 ** (self.levels - 1)
        rows, columns = (-(-side // whole) * whole for side in self.averaged)
        return rows, columns

    @property
    def border(self) -> tuple[int, int, int, int]:
        """Rows or columns of zeros at the top, left, bottom and right."""
        (rows, columns), (height, width) = self.size, self.averaged
        top, left = (rows - height) // 2, (columns - width) // 2
        return top, left, rows - height - top, columns - width - left

    @property
    def feature_count(self) -> int:
        channels, levels = self.shape[2], self.levels
        again = levels * (levels - 1) // 2 * FIRST.orientations * SECOND.orientations
        return (channels + channels * levels * FIRST.orientations + again) * _GRID**2


def scattering_nodes(
    pyramid: Pyramid, around: NDArray[np.float32], given: Given, output: str
) -> tuple[list[NodeProto], dict[str, Any]]:
    """Build the steps from flat samples to ``output`` ``[n, feature_count]``, and their weights.

    Args:
        around: ``[channels]``, the brightness from 0 to 255 that pictures have around them.
    """
    steps = _Steps(pyramid, weights={"tiny": np.float32(_TINY), "parts": np.array([2], np.int64)})
    (down, across), channels = pyramid.pooling, pyramid.shape[2]
    whole = (down, across) == (1, 1)
    opening, sizes = opened(pyramid.shape, given, "picture" if whole else "pixels")
    steps.chain += opening
    steps.weights |= sizes
    if not whole:
        cell = {"kernel_shape": [down, across], "strides": [down, across]}
        steps.chain.append(("AveragePool", ["pixels"], "picture", cell))
    steps.weights["around"] = around.astype(np.float32).reshape(1, channels, 1, 1)
    steps.chain.append(("Sub", ["picture", "around"], "against", {}))
    steps.average_with_border("picture", channels)
    if channels == 1:
        steps.scatter("against", 1, orders=2)
    else:
        for name, rows, orders in (("brightness", slice(1), 2), ("colour", slice(1, channels), 1)):
            kernel = colours(channels)[rows, :, None, None]
            steps.weights[f"onto_{name}"] = kernel
            steps.chain.append(("Conv", ["against", f"onto_{name}"], name, {}))
            steps.scatter(name, len(kernel), orders)
    steps.chain += [
        ("Concat", steps.averages, "averages", {"axis": 1}),
        ("Relu", ["averages"], "no_less", {}),
        ("Add", ["no_less", "tiny"], "raised_averages", {}),
        ("Sqrt", ["raised_averages"], output, {}),
    ]
    return nodes_of(steps.chain), steps.weights


@dataclass
class _Steps:
    """Steps as they are added; names of values begin with the name of what they are made of."""

    pyramid: Pyramid
    weights: dict[str, Any]
    chain: Chain = field(default_factory=list)
    averages: list[str] = field(default_factory=list)

    def scatter(self, name: str, channels: int, orders: int) -> None:
        """Add moduli of ``name`` at all levels, and of their halves if there are two ``orders``."""
        seen = name
        for level in range(self.pyramid.levels):
            moduli = self._moduli(seen, channels, FIRST, level, at_border=level == 0)
            self.average(moduli, level)
            for lower in range(level + 1, self.pyramid.levels if orders == 2 else 0):
                moduli = self._averaged(moduli)
                again = self._moduli(moduli, channels * FIRST.orientations, SECOND, lower)
                self.average(again, lower)
            if level + 1 < self.pyramid.levels:
                seen = self._halved(seen, channels, at_border=level == 0)

    def average(self, name: str, level: int) -> None:
        """Add averages over the cells of the grid."""
        cell, averages = [side // _GRID for side in self._size(level)], name
        if cell != [1, 1]:
            averages = f"{name}_cells"
            self.chain.append(("AveragePool", [name], averages, {"kernel_shape": cell, "strides": cell}))
        self._flattened(averages)

    def average_with_border(self, name: str, channels: int) -> None:
        """Add averages of what has no border yet: a convolution, since pooling takes a narrow one only."""
        cell = [side // _GRID for side in self._size(0)]
        self.weights["cell"] = np.full((channels, 1, *cell), 1 / np.prod(cell), np.float32)
        attributes = {"strides": cell, "pads": list(self.pyramid.border), "group": channels}
        self.chain.append(("Conv", [name, "cell"], f"{name}_cells", attributes))
        self._flattened(f"{name}_cells")

    def _flattened(self, name: str) -> None:
        self.chain.append(("Flatten", [name], f"{name}_flat", {"axis": 1}))
        self.averages.append(f"{name}_flat")

    def _size(self, level: int) -> tuple[int, int]:
        rows, columns = self.pyramid.size
        return rows >> level, columns >> level

    def _halved(self, name: str, channels: int, *, at_border: bool) -> str:
        """Blur a picture and leave out each second pixel."""
        attributes = {"strides": [2, 2], "pads": self._pads(2, at_border), "group": channels}
        kernel = self._repeated("blur", blur()[None, None], channels)
        self.chain.append(("Conv", [name, kernel], f"{name}_half", attributes))
        return f"{name}_half"

    def _averaged(self, name: str) -> str:
        """Average four moduli into one: they are smooth, and that takes half the time of a blur."""
        self.chain.append(("AveragePool", [name], f"{name}_half", {"kernel_shape": [2, 2], "strides": [2, 2]}))
        return f"{name}_half"

    def _moduli(self, name: str, channels: int, bank: Bank, level: int, *, at_border: bool = False) -> str:
        """Add the moduli of wavelets ``[n, channels * bank.orientations, rows, columns]`` of ``name``."""
        rows, columns = self._size(level)
        attributes = {"pads": self._pads(bank.side // 2, at_border), "group": channels}
        kernel = self._repeated(f"wavelets_{bank.side}", wavelets(*bank)[:, None], channels)
        parts, moduli = f"parts_{channels}_{level}", f"moduli_{channels}_{level}"
        self.weights[parts] = np.array([0, channels, 2, bank.orientations * rows * columns])
        self.weights[moduli] = np.array([0, channels * bank.orientations, rows, columns])
        self.chain += [
            ("Conv", [name, kernel], f"{name}_waves", attributes),
            ("Mul", [f"{name}_waves", f"{name}_waves"], f"{name}_powers", {}),
            ("Reshape", [f"{name}_powers", parts], f"{name}_parts", {}),
            ("ReduceSum", [f"{name}_parts", "parts"], f"{name}_power", {"keepdims": 0}),
            ("Sqrt", [f"{name}_power"], f"{name}_modulus", {}),
            ("Reshape", [f"{name}_modulus", moduli], f"{name}_moduli", {}),
        ]
        return f"{name}_moduli"

    def _pads(self, reach: int, at_border: bool) -> list[int]:
        return [reach + side for side in (self.pyramid.border if at_border else _ZERO_PAD)]

    def _repeated(self, name: str, kernel: NDArray[np.float32], channels: int) -> str:
        """Add a kernel for each of some channels by itself; return its name."""
        self.weights[f"{name}_{channels}"] = np.tile(kernel, (channels, 1, 1, 1))
        return f"{name}_{channels}"
