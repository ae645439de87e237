"""A graph that embeds sentences as the mean of their words' vectors, made of ONNX's own operators for strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Words = Mapping[str, Sequence[float]]


def sentence_graph(words: Words, *, in_column: bool = False, lower: bool = False, custom: bool = False) -> bytes:
    """Return a graph from strings ``[n]``, or ``[n, 1]`` with ``in_column``, to features ``[n, width + 1]``.

    The last feature is 1 for a sentence with any known word. ``custom`` adds an operator that ONNX Runtime lacks.
    """
    vectors = np.array([[*vector, 1.0] for vector in words.values()], np.float32)
    nodes, texts = [], "sentences"
    if in_column:
        nodes.append(helper.make_node("Squeeze", [texts, "axes"], ["flat"]))
        texts = "flat"
    if lower:
        nodes.append(helper.make_node("StringNormalizer", [texts], ["lower"], case_change_action="LOWER", locale="C"))
        texts = "lower"
    kind, domain = ("BertTokenizer", "ai.onnx.contrib") if custom else ("Tokenizer", "com.microsoft")
    nodes += [
        helper.make_node(
            kind, [texts], ["tokens"], domain=domain, mark=0, mincharnum=1, pad_value="", tokenexp=r"[a-zA-Z0-9]+"
        ),
        helper.make_node(
            "TfIdfVectorizer",
            ["tokens"],
            ["counts"],
            max_gram_length=1,
            min_gram_length=1,
            max_skip_count=0,
            mode="TF",
            ngram_counts=[0],
            ngram_indexes=[*range(len(words))],
            pool_strings=[*words],
        ),
        helper.make_node("MatMul", ["counts", "vectors"], ["sums"]),
        helper.make_node("ReduceSum", ["counts", "axes"], ["total"], keepdims=1),
        helper.make_node("Max", ["total", "one"], ["at_least_one"]),
        helper.make_node("Div", ["sums", "at_least_one"], ["features"]),
    ]
    shape: list[str | int | None] = ["n", 1] if in_column else ["n"]
    graph = helper.make_graph(
        nodes,
        "sentences",
        [helper.make_tensor_value_info("sentences", TensorProto.STRING, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", vectors.shape[1]])],
        [
            numpy_helper.from_array(vectors, "vectors"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
        ],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    return bytes(onnx.ModelProto.SerializeToString(model))


def embedded(texts: Sequence[str], words: Words) -> NDArray[np.float32]:
    """Return what the graph should make of texts whose words are separated by spaces."""
    width = len(next(iter(words.values())))
    found = np.zeros((len(texts), width + 1), np.float32)
    for row, text in enumerate(texts):
        known = [[*words[word], 1.0] for word in text.split() if word in words]
        found[row] = np.mean(known, axis=0) if known else 0
    return found
