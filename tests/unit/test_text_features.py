"""Features of texts: what scikit-learn computes, for any script, in one graph up to the probabilities."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from scorer_svc.features.text_terms import CHARACTER_SIZES, OTHER, SPACE, Terms, characters_of, folded, words_of
from scorer_svc.features.texts import learn_texts
from scorer_svc.models.graph import Graph
from scorer_svc.models.model import Model
from trainer_svc.model.onnx_export import joined, to_onnx

ENGLISH = "the market fell as banks and shares of oil rose while a team won its last game by two goals"
OTHERS = (
    "Рынок упал Банки РОСЛИ ещё раз हिन्दी पाठ שלום עולם مرحبا "
    "بالعالم 今天天气很好 今天 天气不好 Ünïcode naïve x2 a_b 😀 😀😀 :) don't"
)
VOCABULARY = [*ENGLISH.split(), *OTHERS.split()]
CORPUS = [" ".join(random.Random(i).choices(VOCABULARY, k=3 + i % 9)) for i in range(300)]
CORPUS += ["The MARKET!\tfell,\n\nas  Banks...", "THE Market fell: as banks", "\u00a0 ", "!?"]


def array_of(texts: list[str]) -> NDArray[np.object_]:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


def run(graph: bytes, texts: list[str], output: str = "features") -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([output], {"samples": array_of(texts)})[0]
    return found


def lower(text: str) -> str:
    """Fold each letter by itself."""
    return "".join(each.lower() if len(each.lower()) == 1 else each for each in text)


def names_of(terms: Terms, glue: str) -> list[str]:
    """The terms in scikit-learn's spelling, in the order of their columns."""
    spelled: dict[int, str] = {}
    for symbol, code in sorted(terms.codes.items(), key=lambda each: each[0] != lower(each[0])):
        spelled.setdefault(code, symbol if code != SPACE else " ")
    spelled[SPACE] = " "
    return [glue.join(spelled[code] for code in row) for part in terms.terms for row in part.tolist()]


def reference(texts: list[str], components: NDArray[np.float32]) -> NDArray[np.float64]:
    """What scikit-learn makes of the same terms, before the same projection."""
    common = {"sublinear_tf": True, "norm": "l2", "smooth_idf": True}
    words, characters = words_of(texts, 10_000, 2), characters_of(texts, 10_000, 2)
    by_word = TfidfVectorizer(
        vocabulary=[folded(name) for name in names_of(words, " ")],
        token_pattern=r"(?u)[\w" + "".join(map(chr, marks())) + "]{2,}",
        preprocessor=lambda text: unicodedata.normalize("NFC", text.lower()),
        ngram_range=(1, 2),
        **common,
    )
    by_character = TfidfVectorizer(
        vocabulary=names_of(characters, ""),
        analyzer="char_wb",
        ngram_range=(min(CHARACTER_SIZES), max(CHARACTER_SIZES)),
        preprocessor=lower,
        **common,
    )
    both = [each.fit_transform(texts).toarray() for each in (by_word, by_character)]
    projected: NDArray[np.float64] = np.concatenate(both, axis=1) @ components
    return projected


def marks() -> list[int]:
    return [point for point in range(0x110000) if unicodedata.category(chr(point))[0] == "M"]


def components_of(graph: bytes) -> NDArray[np.float32]:
    [found] = [each for each in onnx.load_model_from_string(graph).graph.initializer if each.name == "components"]
    return np.array(onnx.numpy_helper.to_array(found))


def test_the_graph_computes_what_scikit_learn_does() -> None:
    graph = learn_texts(CORPUS, seed=0)
    features, expected = run(graph, CORPUS), reference(CORPUS, components_of(graph))
    assert np.abs(features - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.sqrt((features**2).sum(axis=1).mean()) == pytest.approx(20, rel=0.02)


def test_the_same_texts_give_the_same_graph() -> None:
    assert learn_texts(CORPUS, seed=3) == learn_texts(CORPUS, seed=3)


def test_case_and_composition_make_no_difference() -> None:
    graph = learn_texts(CORPUS, seed=0)
    plain, loud, taken_apart = run(
        graph, ["market fell naïve ещё", "MARKET Fell NAÏVE Ещё", unicodedata.normalize("NFD", "market fell naïve ещё")]
    )
    assert np.allclose(plain, loud, atol=1e-4)
    assert np.dot(plain, taken_apart) > 0.5 * np.dot(plain, plain)  # its words are known, some of its letters are not


def test_only_terms_of_several_texts_are_kept() -> None:
    words = words_of(["one two two", "one three", "four"], 100, 2)
    assert (words.count, words.codes["One"]) == (1, words.codes["one"])
    assert "two" not in words.codes


def test_of_too_many_terms_those_of_most_texts_are_kept() -> None:
    texts = ["common rare1", "common rare2", "common twice", "twice rare3"]
    assert set(words_of(texts, 1, 1).codes) == {"common", "Common", "COMMON"}
    assert words_of(texts, 2, 1).codes.keys() >= {"common", "twice"}
    assert words_of(texts, 4, 1).count == 4  # of the many that one text has, some


def test_runs_of_characters_end_at_white_space() -> None:
    terms = characters_of(["ab cd", "ab\ncd"], 100, 1)
    assert sorted(names_of(terms, "")) == sorted(
        [" a", "ab", "b ", " c", "cd", "d ", " ab", "ab ", " cd", "cd ", " ab ", " cd "]
    )
    assert OTHER not in terms.codes.values()


@pytest.mark.parametrize(
    "texts",
    [
        ["Привет мир", "как дела", "Привет дела"],
        ["今天天气很好", "今天很好吃", "天气不好"],
        ["😀😀", "😀 no", "!!"],
        ["שלום עולם", "שלום", "مرحبا"],
        ["a\0b", "\x02", "\ud7ff"],
        ["a", "b"],
        ["İstanbul ẞ ΣΑΣ", "istanbul ss σας"],
    ],
    ids=["cyrillic", "chinese", "emoji", "right to left", "controls", "one letter", "odd cases"],
)
def test_any_script_has_features(texts: list[str]) -> None:
    graph = Graph(learn_texts(texts, seed=0), "g", field="f")
    features = graph.answers(array_of([*texts, "", "zzzz"]))
    assert np.isfinite(features).all()
    assert (features[: len(texts)] ** 2).sum(axis=1).max() > 1
    assert not features[-2].any()


def test_texts_that_share_a_script_without_spaces_are_told_apart() -> None:
    weather, food = ["今天天气很好", "明天天气不好", "天气预报"] * 10, ["这个菜很好吃", "菜单上的菜", "好吃的菜"] * 10
    features = run(learn_texts([*weather, *food], seed=0), ["天气怎么样", "菜怎么样", "今天天气很好"])
    near, far = features[0] @ features[2], features[1] @ features[2]
    assert near > far


def test_texts_without_anything_in_common_teach_nothing() -> None:
    with pytest.raises(ValueError, match="no words or characters in common"):
        learn_texts([" "] * 3, seed=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=8))
def test_any_texts_are_computed_alike_alone_and_together(texts: list[str]) -> None:
    graph = Graph(GRAPH, "g", field="f")
    together = graph.answers(array_of(texts))
    alone = np.concatenate([graph.answers(array_of([text])) for text in texts])
    assert np.allclose(together, alone, atol=1e-3)


GRAPH = learn_texts(CORPUS, seed=0)


def test_long_texts_are_computed_few_at_a_time() -> None:
    texts = array_of(["the market " * 9_000, "fell", "team " * 18_000] * 3)
    graph = Graph(GRAPH, "g", field="f")
    assert np.allclose(graph.answers(texts)[:3], graph.answers(texts[:3]), atol=1e-3)


def test_one_graph_leads_from_strings_to_probabilities() -> None:
    features = Graph(GRAPH, "g", field="f")
    weights = np.random.default_rng(0).normal(0, 0.1, (3, features.answer_count + 1)).astype(np.float32)
    head = to_onnx(weights, "float32")
    data = joined(GRAPH, head)
    model = Model(data, "m")
    assert (model.dtype, model.feature_count, model.class_count) == ("utf8", 1, 3)
    expected = Model(head, "h").probabilities(features.answers(array_of(CORPUS)))
    assert np.allclose(model.probabilities(array_of(CORPUS)), expected, atol=1e-4)
    assert np.allclose(run(data, CORPUS, "probabilities"), expected, atol=1e-4)
    assert model.prefilter is None
