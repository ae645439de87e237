"""Validate how a graph reads strings, and take those steps out of it. Pure functions.

ONNX's own checks end the process for some graphs of strings, and do not know ONNX Runtime's Tokenizer; so the steps
that see strings are checked here, and ONNX gets to see what they leave: counts of terms. Such steps are

- ``Squeeze`` or ``Reshape``, from an input ``[n, 1]`` to texts ``[n]``;
- ``StringNormalizer``, from texts to texts in lower or upper case;
- ``Tokenizer`` (com.microsoft), from texts to tokens;
- ``LabelEncoder`` (ai.onnx.ml), from tokens to int64 codes;
- ``TfIdfVectorizer``, from tokens or codes to float32 ``[n, terms]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

_COLUMN, _TEXTS, _TOKENS, _CODES = "texts in a column", "texts", "tokens", "codes"
_EXTENSIONS = "ai.onnx.contrib"  # of the package onnxruntime-extensions
_STEPS_MAX = 16
_EXPRESSION_BYTES_MAX, _EXPRESSIONS_MAX = 500, 16
_TERM_TOKENS_MAX = 8
_SKIPPED_MAX = 5
_SHAPE_BYTES = 8  # of one number
_SHOWN_MAX = 5
_TERMS_MAX = 1_000_000
_DOMAINS = {"ai.onnx.ml": range(2, 6), "com.microsoft": range(1, 2)}
_KNOWN = {
    ("", "StringNormalizer"),
    ("com.microsoft", "Tokenizer"),
    ("ai.onnx.ml", "LabelEncoder"),
    ("", "TfIdfVectorizer"),
}
_INT, _INTS, _FLOATS = AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOATS
_STRING, _STRINGS = AttributeProto.STRING, AttributeProto.STRINGS
_ATTRIBUTES: dict[str, dict[str, int]] = {
    "StringNormalizer": {"case_change_action": _STRING, "is_case_sensitive": _INT, "locale": _STRING},  # no stopwords
    "Tokenizer": {
        "mark": _INT,
        "mincharnum": _INT,
        "pad_value": _STRING,
        "separators": _STRINGS,
        "tokenexp": _STRING,
    },
    "LabelEncoder": {"default_int64": _INT, "keys_strings": _STRINGS, "values_int64s": _INTS},
    "TfIdfVectorizer": {
        "max_gram_length": _INT,
        "max_skip_count": _INT,
        "min_gram_length": _INT,
        "mode": _STRING,
        "ngram_counts": _INTS,
        "ngram_indexes": _INTS,
        "pool_int64s": _INTS,
        "pool_strings": _STRINGS,
        "weights": _FLOATS,
    },
}


def takes_strings(graph: GraphProto) -> bool:
    """Return whether the graph's first input holds strings."""
    return bool(graph.input) and graph.input[0].type.tensor_type.elem_type == TensorProto.STRING


def without_strings(model: ModelProto) -> ModelProto:
    """Return the model with counts of terms ``[n, terms]`` as inputs, in place of the steps that see strings.

    Raises ValueError if the model does not take one input of strings ``[n]``, or reads them in another way.
    """
    _check_versions(model)
    batch, kind = _checked_input(model.graph)
    kinds, counts = {model.graph.input[0].name: kind}, dict[str, int]()
    rest, constants = [], {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        seen = [kinds[name] for name in node.input if name in kinds]
        if (node.domain, node.op_type) in _KNOWN:
            _take(node, seen, kinds, counts)
        elif seen == [_COLUMN] and _flattens(node, constants):
            kinds[node.output[0]] = _TEXTS
        elif seen:
            raise ValueError(
                f"{node.op_type} sees strings: only Tokenizer, LabelEncoder, TfIdfVectorizer and StringNormalizer may, "
                "and Squeeze or Reshape of an input [n, 1]"
            )
        else:
            rest.append(node)
    if not counts or len(kinds) + len(counts) > _STEPS_MAX:
        raise ValueError(f"it must count terms, in at most {_STEPS_MAX} steps that see strings")
    return _reduced(model, rest, counts, batch)


def _check_versions(model: ModelProto) -> None:
    if custom := sorted({node.op_type for node in model.graph.node if node.domain == _EXTENSIONS}):
        raise ValueError(
            f"it needs custom operators of onnxruntime-extensions ({', '.join(custom[:_SHOWN_MAX])}), which are not "
            "run here: compute the vectors of the texts yourself and give them beside the pool (embeddings)"
        )
    for opset in model.opset_import:
        if opset.domain and opset.version not in _DOMAINS.get(opset.domain, ()):
            raise ValueError(f"it uses operators of {opset.domain} {opset.version}, of which nothing is known")


def _checked_input(graph: GraphProto) -> tuple[str, str]:
    """Return the name of the first dimension of the only input, and of what kind it is."""
    sizes = graph.input[0].type.tensor_type.shape.dim
    is_column = len(sizes) == 2 and sizes[1].dim_value == 1
    if len(graph.input) != 1 or not (len(sizes) == 1 or is_column) or not sizes[0].dim_param:
        raise ValueError("it must take texts as one input of strings [n] or [n, 1], for any n")
    return sizes[0].dim_param, _COLUMN if is_column else _TEXTS


def _flattens(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """Return whether a step makes texts ``[n]`` of texts ``[n, 1]``, whatever n is."""
    wanted = {"Squeeze": ([1], [-1]), "Reshape": ([-1],)}.get(node.op_type, ())
    target = constants.get(node.input[1]) if len(node.input) == 2 and not node.domain else None
    if target is None or target.data_type != TensorProto.INT64 or len(target.raw_data) != _SHAPE_BYTES:
        return False
    sound = len(node.output) == 1 and node.output[0] and not node.attribute and not target.external_data
    return bool(sound) and list(memoryview(target.raw_data).cast("q")) in wanted


def _take(node: NodeProto, seen: list[str], kinds: dict[str, str], counts: dict[str, int]) -> None:
    """Check a step and note what its output is: what kind of strings, or counts of how many terms."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    fault = _plain_fault(node, attributes)
    if not fault and node.op_type == "StringNormalizer":
        fault = "" if seen == [_TEXTS] else "it does not see the texts"
        kinds[node.output[0]] = _TEXTS
    elif not fault and node.op_type == "Tokenizer":
        fault = _tokenizer_fault(attributes) if seen == [_TEXTS] else "it does not see the texts"
        kinds[node.output[0]] = _TOKENS
    elif not fault and node.op_type == "LabelEncoder":
        fault = _encoder_fault(attributes) if seen == [_TOKENS] else "it does not see tokens"
        kinds[node.output[0]] = _CODES
    elif not fault:
        wanted = _TOKENS if "pool_strings" in attributes else _CODES
        fault = _counter_fault(attributes) if seen == [wanted] else "it does not see what its terms are made of"
        counts[node.output[0]] = max(attributes.get("ngram_indexes") or [0]) + 1
    if fault:
        raise ValueError(f"its {node.op_type} cannot be used: {fault}")


def _plain_fault(node: NodeProto, attributes: dict[str, Any]) -> str:
    if len(node.input) != 1 or len(node.output) != 1 or not node.output[0]:
        return "it must have one input and one output"
    if len(attributes) != len(node.attribute) or any(each.ref_attr_name for each in node.attribute):
        return "an attribute stands there twice"
    for each in node.attribute:
        if _ATTRIBUTES[node.op_type].get(each.name) != each.type:
            return f"its attribute {each.name!r} is unknown, or of another type"
    return ""


def _tokenizer_fault(attributes: dict[str, Any]) -> str:
    expressions = [attributes.get("tokenexp", b""), *attributes.get("separators", [])]
    if len(expressions) > _EXPRESSIONS_MAX or max(map(len, expressions)) > _EXPRESSION_BYTES_MAX:
        return f"it has more than {_EXPRESSIONS_MAX} expressions, or one of more than {_EXPRESSION_BYTES_MAX} bytes"
    return ""


def _encoder_fault(attributes: dict[str, Any]) -> str:
    keys, values = (attributes.get(name, []) for name in ("keys_strings", "values_int64s"))
    return "" if 1 <= len(keys) == len(values) <= _TERMS_MAX else "it must map strings to as many whole numbers"


def _counter_fault(attributes: dict[str, Any]) -> str:
    indexes, starts = attributes.get("ngram_indexes", []), attributes.get("ngram_counts", [])
    pools = [attributes[name] for name in ("pool_int64s", "pool_strings") if name in attributes]
    least, most = attributes.get("min_gram_length", 0), attributes.get("max_gram_length", 0)
    if len(pools) != 1 or not 1 <= least <= most <= _TERM_TOKENS_MAX or len(starts) != most:
        return f"its terms must be of 1 to {_TERM_TOKENS_MAX} tokens or codes, with a start for each number"
    if not 0 <= attributes.get("max_skip_count", -1) <= _SKIPPED_MAX:
        return f"it must skip 0 to {_SKIPPED_MAX} tokens"
    lengths = [after - before for before, after in pairwise([*starts, len(pools[0])])]
    if starts[0] or any(length < 0 or length % size for size, length in enumerate(lengths, start=1)):
        return "its starts do not cut its terms"
    terms = sum(length // size for size, length in enumerate(lengths, start=1))
    if not 1 <= len(indexes) == terms <= _TERMS_MAX or not 0 <= min(indexes) <= max(indexes) < _TERMS_MAX:
        return f"it must give each of its terms a column from 0 to {_TERMS_MAX:,}"
    return "" if len(attributes.get("weights", indexes)) == terms else "it must give each of its terms a weight"


def _reduced(model: ModelProto, rest: list[NodeProto], counts: dict[str, int], batch: str) -> ModelProto:
    reduced = ModelProto()
    reduced.CopyFrom(model)
    del reduced.opset_import[:], reduced.graph.node[:], reduced.graph.input[:], reduced.graph.value_info[:]
    reduced.opset_import.extend(each for each in model.opset_import if not each.domain)
    reduced.graph.node.extend(rest)
    reduced.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, terms]) for name, terms in counts.items()
    )
    return reduced
