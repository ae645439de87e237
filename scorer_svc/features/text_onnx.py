"""Build the ONNX graph that computes features from texts. Pure functions.

Of strings it uses ONNX Runtime's Tokenizer, and a table of codes (``LabelEncoder``) in place of StringNormalizer, which
fails to load on systems that lack a language's locale. The table maps all cases of a letter, and all spellings of a
word, to one code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from scorer_svc.features.text_terms import OTHER, SPACE, WORD_CHARACTERS_MIN, Terms

INPUT, OUTPUT = "samples", "features"
_OPSET, _IR = 13, 8
_NOTHING = 1e-12  # length of a text without any of the terms
_PAD = "\0"
_WORD, _CHARACTER = r"[\p{L}\p{M}\p{N}_]+", r"(?s)."
_START, _END = "\x02", "\x03"  # the Tokenizer's marks around a text


@dataclass(frozen=True)
class Block:
    """Terms of one kind, with the weight of each, ``[terms]`` float32."""

    terms: Terms
    weights: NDArray[np.float32]


def text_graph(words: Block | None, characters: Block | None, components: NDArray[np.float32]) -> bytes:
    """Build the graph from strings ``[n]`` to features ``[n, features]``.

    In each block, counts ``t`` become ``(1 + log(t)) * weight``, scaled to length 1; then all are multiplied by
    ``components`` ``[terms of all blocks, features]``.
    """
    nodes: list[NodeProto] = []
    weights = {"one": np.float32(1), "nothing": np.float32(_NOTHING), "components": components}
    scaled = []
    for name, block, split in (("words", words, _words), ("characters", characters, _characters)):
        if block is not None:
            nodes += [*split(block.terms), _counts(name, block.terms), *_weighted(name)]
            weights[f"{name}_weights"] = block.weights
            scaled.append(f"{name}_scaled")
    nodes += [
        helper.make_node("Concat", scaled, ["scaled"], axis=1),
        helper.make_node("MatMul", ["scaled", "components"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "text_features",
        [helper.make_tensor_value_info(INPUT, TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", components.shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [("", _OPSET), ("ai.onnx.ml", 2), ("com.microsoft", 1)]
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*each) for each in opsets], producer_name="labelloop"
    )
    model.ir_version = _IR
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _words(terms: Terms) -> list[NodeProto]:
    return [
        _tokenizer("words", _WORD, mark=0, mincharnum=WORD_CHARACTERS_MIN),
        _encoder("words", terms.codes),
    ]


def _characters(terms: Terms) -> list[NodeProto]:
    edges = {_START: SPACE, _END: SPACE}
    return [_tokenizer("characters", _CHARACTER, mark=1, mincharnum=1), _encoder("characters", terms.codes | edges)]


def _tokenizer(name: str, expression: str, *, mark: int, mincharnum: int) -> NodeProto:
    return helper.make_node(
        "Tokenizer",
        [INPUT],
        [f"{name}_tokens"],
        domain="com.microsoft",
        mark=mark,
        mincharnum=mincharnum,
        pad_value=_PAD,
        tokenexp=expression,
    )


def _encoder(name: str, codes: dict[str, int]) -> NodeProto:
    known = sorted((symbol, code) for symbol, code in codes.items() if symbol != _PAD)
    return helper.make_node(
        "LabelEncoder",
        [f"{name}_tokens"],
        [f"{name}_codes"],
        domain="ai.onnx.ml",
        keys_strings=[symbol for symbol, _ in known],
        values_int64s=[code for _, code in known],
        default_int64=OTHER,
    )


def _counts(name: str, terms: Terms) -> NodeProto:
    present = [each for each in terms.terms if len(each)]
    sizes = [each.shape[1] for each in present]
    starts = {size: sum(each.size for each in present if each.shape[1] < size) for size in range(1, max(sizes) + 1)}
    return helper.make_node(
        "TfIdfVectorizer",
        [f"{name}_codes"],
        [f"{name}_counts"],
        mode="TF",
        min_gram_length=min(sizes),
        max_gram_length=max(sizes),
        max_skip_count=0,
        ngram_counts=list(starts.values()),
        ngram_indexes=list(range(terms.count)),
        pool_int64s=np.concatenate([each.ravel() for each in present]).tolist(),
    )


def _weighted(name: str) -> list[NodeProto]:
    """Return the nodes from counts to weights of length 1: 1 + log(t) is min(t, 1) + log(max(t, 1)) for counts."""
    steps = [
        ("Max", ["counts", "/one"], "floored"),
        ("Log", ["floored"], "logs"),
        ("Min", ["counts", "/one"], "present"),
        ("Add", ["present", "logs"], "damped"),
        ("Mul", ["damped", "weights"], "weighted"),
        ("ReduceL2", ["weighted"], "length"),
        ("Max", ["length", "/nothing"], "divisor"),
        ("Div", ["weighted", "divisor"], "scaled"),
    ]
    nodes = [
        helper.make_node(
            kind, [each[1:] if each[0] == "/" else f"{name}_{each}" for each in inputs], [f"{name}_{output}"]
        )
        for kind, inputs, output in steps
    ]
    nodes[5].attribute.extend([helper.make_attribute("axes", [1]), helper.make_attribute("keepdims", 1)])
    return nodes
