"""Choose the instructions with which a processor multiplies samples by weights. Pure functions.

Only instructions that the processor's list of features names are chosen: for any other, LLVM's code generator would end
the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Product = Literal["vpdpbusd", "vpmaddubsw", "sdot", "neighbours", "halves"]
"""How products of a sample's values and of weights are summed in int32:

- ``vpdpbusd``: four bytes of each at a time (AVX-512 VNNI, AVX-VNNI);
- ``vpmaddubsw``: two bytes at a time in int16, which saturates, then two of these sums (AVX2, AVX-512 BW);
- ``sdot``: four signed bytes at a time (Arm's dot product);
- ``neighbours``: int16 weights, in a form in which LLVM finds vpdpwssd and vpmaddwd (x86), for any processor;
- ``halves``: int16 weights, in a form in which LLVM finds smull and smlal2 (Arm), for any processor.
"""


@dataclass(frozen=True)
class Instructions:
    """How a kernel multiplies.

    Attributes:
        product: See :data:`Product`.
        lanes: int32 in a vector register.
        registers: How many vector registers there are.
    """

    product: Product
    lanes: int
    registers: int

    @property
    def weight_bits(self) -> int:
        """Bits of a weight, 8 or 16."""
        return 16 if self.product in ("neighbours", "halves") else 8

    @property
    def weight_max(self) -> int:
        """The largest magnitude of a weight.

        ``vpmaddubsw`` adds two products in int16: 2 * 255 * 64 = 32,640 is the most that does not saturate.
        """
        return 64 if self.product == "vpmaddubsw" else 2 ** (self.weight_bits - 1) - 1

    @property
    def shift(self) -> int:
        """What is subtracted from a sample's values, so that they fit the instruction."""
        return 128 if self.product == "sdot" else 0

    @property
    def samples_at_once(self) -> int:
        """Samples that share the load of a weight."""
        return 2 if self.registers > 16 else 1


def instructions(triple: str, features: str) -> list[Instructions]:
    """Return the instructions for kernels of int8 weights, if there are any, and of int16 weights, in this order.

    Args:
        triple: LLVM's target triple.
        features: The processor's features in LLVM's form, such as ``+avx2,-avx512f``.
    """
    there = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    architecture = triple.split("-")[0]
    if architecture in ("aarch64", "arm64"):
        fine = Instructions("halves", 4, 32)
        return [Instructions("sdot", 4, 32), fine] if "dotprod" in there else [fine]
    if architecture not in ("x86_64", "amd64"):
        return [Instructions("halves", 4, 16)]
    if {"avx512f", "avx512bw", "avx512vl"} <= there:
        product: Product = "vpdpbusd" if "avx512vnni" in there else "vpmaddubsw"
        return [Instructions(product, 16, 32), Instructions("neighbours", 16, 32)]
    if "avx2" in there:
        product = "vpdpbusd" if "avxvnni" in there else "vpmaddubsw"
        return [Instructions(product, 8, 16), Instructions("neighbours", 8, 16)]
    return [Instructions("neighbours", 4, 16)]
