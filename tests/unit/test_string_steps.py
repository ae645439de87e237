"""Validation of graphs that read strings: only known steps, in a known order, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from labelloop.errors import InvalidInput
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from scorer_svc.features.texts import learn_texts
from scorer_svc.models.graph import Graph
from scorer_svc.models.validation import validated
from tests.sentence_graph import embedded, sentence_graph
from trainer_svc.model.onnx_export import joined, to_onnx

TEXTS = ["one two three", "two three four", "three four one"] * 10


@cache
def _learned() -> bytes:
    return learn_texts(TEXTS, seed=0)


def ours() -> ModelProto:
    return onnx.load_model_from_string(_learned())


def node(model: ModelProto, kind: str) -> NodeProto:
    return next(each for each in model.graph.node if each.op_type == kind)


def put(model: ModelProto, kind: str, name: str, value: object) -> None:
    """Give the first node of that kind another attribute of that name."""
    found = node(model, kind)
    kept = [each for each in found.attribute if each.name != name]
    del found.attribute[:]
    found.attribute.extend([*kept, helper.make_attribute(name, value)])


def size_of(model: ModelProto) -> int:
    return next(len(each.ints) for each in node(model, "TfIdfVectorizer").attribute if each.name == "ngram_indexes")


def test_a_learned_graph_is_accepted() -> None:
    inferred = validated(_learned()).model
    assert [value.name for value in inferred.graph.input] == ["samples"]
    assert not {each.op_type for each in inferred.graph.node} & {"Tokenizer", "LabelEncoder", "TfIdfVectorizer"}
    assert Graph(_learned(), "g", field="f").dtype == "utf8"


def with_a_second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 3]))


def with_a_fixed_number_of_texts(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3


def with_texts_in_a_matrix(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("samples", TensorProto.STRING, ["n", 1]))


def put_before(model: ModelProto, kind: str, inputs: list[str], **attributes: Any) -> None:
    """Have the first step see the texts through another step."""
    model.graph.node.insert(0, helper.make_node(kind, inputs, ["changed"], **attributes))
    node(model, "Tokenizer").input[0] = "changed"


def with_another_step(model: ModelProto) -> None:
    put_before(model, "StringConcat", ["samples", "samples"])


def with_words_left_out(model: ModelProto) -> None:
    put_before(model, "StringNormalizer", ["samples"], stopwords=["one"])


def with_texts_flattened_twice(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "shape"))
    put_before(model, "Reshape", ["samples", "shape"])


def with_texts_mixed(model: ModelProto) -> None:
    with_texts_in_a_matrix(model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "shape"))
    put_before(model, "Reshape", ["samples", "shape"])


def with_an_odd_shape(model: ModelProto) -> None:
    with_texts_in_a_matrix(model)
    tensor = TensorProto(name="shape", data_type=TensorProto.INT64, dims=[1], raw_data=b"abc")
    model.graph.initializer.append(tensor)
    put_before(model, "Reshape", ["samples", "shape"])


def with_strings_into_numbers(model: ModelProto) -> None:
    node(model, "Concat").input.append("words_codes")


def with_a_step_that_sees_the_texts_twice(model: ModelProto) -> None:
    node(model, "Tokenizer").input.append("samples")


def with_codes_of_codes(model: ModelProto) -> None:
    node(model, "LabelEncoder").input[0] = "characters_codes"


def with_counts_of_tokens_by_codes(model: ModelProto) -> None:
    node(model, "TfIdfVectorizer").input[0] = "words_tokens"


def with_an_unknown_attribute(model: ModelProto) -> None:
    put(model, "LabelEncoder", "keys_floats", [1.0])


def with_an_attribute_of_another_type(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "mode", 5)


def with_an_attribute_twice(model: ModelProto) -> None:
    node(model, "Tokenizer").attribute.append(helper.make_attribute("mark", 1))


def with_a_long_expression(model: ModelProto) -> None:
    put(model, "Tokenizer", "tokenexp", "a" * 501)


def with_many_separators(model: ModelProto) -> None:
    put(model, "Tokenizer", "separators", ["a"] * 17)


def with_fewer_codes_than_keys(model: ModelProto) -> None:
    put(model, "LabelEncoder", "values_int64s", [1])


def with_long_terms(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "max_gram_length", 9)


def with_many_skipped(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "max_skip_count", 6)


def with_a_column_below_zero(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "ngram_indexes", [-1] * size_of(model))


def with_a_column_far_out(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "ngram_indexes", [2**40] * size_of(model))


def with_fewer_columns_than_terms(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "ngram_indexes", [0])


def with_starts_out_of_order(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "ngram_counts", [0, 10**9])


def with_fewer_weights_than_terms(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "weights", [1.0])


def with_two_pools(model: ModelProto) -> None:
    put(model, "TfIdfVectorizer", "pool_strings", ["a"])


def of_an_unknown_domain(model: ModelProto) -> None:
    model.opset_import.add(domain="ai.onnx.contrib", version=1)


def without_counts(model: ModelProto) -> None:
    kept = [each for each in model.graph.node if each.op_type not in {"TfIdfVectorizer", "LabelEncoder", "Tokenizer"}]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def with_wide_counts(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


@pytest.mark.parametrize(
    "change",
    [
        with_a_second_input,
        with_a_fixed_number_of_texts,
        with_texts_in_a_matrix,
        with_another_step,
        with_words_left_out,
        with_texts_flattened_twice,
        with_texts_mixed,
        with_an_odd_shape,
        with_strings_into_numbers,
        with_a_step_that_sees_the_texts_twice,
        with_codes_of_codes,
        with_counts_of_tokens_by_codes,
        with_an_unknown_attribute,
        with_an_attribute_of_another_type,
        with_an_attribute_twice,
        with_a_long_expression,
        with_many_separators,
        with_fewer_codes_than_keys,
        with_long_terms,
        with_many_skipped,
        with_a_column_below_zero,
        with_a_column_far_out,
        with_fewer_columns_than_terms,
        with_starts_out_of_order,
        with_fewer_weights_than_terms,
        with_two_pools,
        of_an_unknown_domain,
        without_counts,
        with_wide_counts,
    ],
)
def test_any_other_graph_is_refused(change: Callable[[ModelProto], None]) -> None:
    model = ours()
    change(model)
    with pytest.raises(ValueError, match=r".+") as caught:
        validated(model.SerializeToString())
    assert str(caught.value)
    with pytest.raises(InvalidInput, match="cannot serve as a model"):
        Graph(model.SerializeToString(), "g", field="f")


def test_an_expression_that_is_none_is_refused() -> None:
    model = ours()
    put(model, "Tokenizer", "tokenexp", "(")
    with pytest.raises(InvalidInput, match="cannot serve as a model"):
        Graph(model.SerializeToString(), "g", field="f")


def test_weights_of_texts_count_as_work() -> None:
    graph = Graph(_learned(), "g", field="f")
    [components] = [each for each in ours().graph.initializer if each.name == "components"]
    assert graph.work >= int(np.prod(components.dims))


WORDS = {"red": [1.0, 0.0], "blue": [0.0, 1.0], "two": [0.5, -2.0]}
SENTENCES = ["red red blue", "nothing known", "two red", ""]


@pytest.mark.parametrize("in_column", [False, True])
@pytest.mark.parametrize("lower", [False, True])
def test_a_users_graph_embeds_sentences(in_column: bool, lower: bool) -> None:
    data = sentence_graph(WORDS, in_column=in_column, lower=lower)
    graph, texts = Graph(data, "g", field="f"), np.array(SENTENCES, object)
    assert (graph.dtype, graph.feature_count, graph.answer_count) == ("utf8", 1, 3)
    assert np.allclose(graph.answers(texts), embedded(SENTENCES, WORDS))
    shouted = graph.answers(np.array([each.upper() for each in SENTENCES], object))
    assert np.allclose(shouted, embedded(SENTENCES if lower else [""] * 4, WORDS))
    head = to_onnx(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), "float32")
    model = Graph(joined(data, head), "m", field="f")
    assert np.allclose(model.classify(texts).sum(axis=1), 1)


def test_custom_operators_are_named_with_a_way_out() -> None:
    with pytest.raises(InvalidInput, match=r"onnxruntime-extensions \(BertTokenizer\).*embeddings"):
        Graph(sentence_graph(WORDS, custom=True), "g", field="f")
