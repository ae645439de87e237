"""Samples that are nearly equal are counted and named, and never merged."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.sample_layout import layout_of
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage
from numpy.typing import NDArray
from PIL import Image

from oracle_svc.datasets import Dataset, closer_look
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.closer_look import with_closer_look
from oracle_svc.datasets.duplicates import with_duplicates
from oracle_svc.datasets.near_duplicates import Seen, near_duplicates
from oracle_svc.datasets.places import Places

CLASSES = ("a", "b")


def texts_of(*texts: str) -> NDArray[Any]:
    samples = np.empty(len(texts), object)
    samples[:] = texts
    return samples


def found(samples: NDArray[Any], distinct: Any = None) -> list[list[int]]:
    layout, _ = layout_of(samples)
    wanted = np.ones(len(samples), bool) if distinct is None else np.array(distinct)
    pairs: list[list[int]] = near_duplicates(Seen(samples, layout), wanted).tolist()
    return pairs


def test_texts_differ_nearly_not_at_all_in_case_space_and_punctuation() -> None:
    texts = texts_of("Hello, world!", "other", "hello  world", "hello worlds", " HELLO-WORLD ", "he llo world")
    assert found(texts) == [[2, 0], [4, 0]]
    assert found(texts, [True, True, False, True, True, True]) == [[4, 0]]
    assert found(texts_of("\u0627\u062e\u062a\u0628\u0627\u0631.", "\u0627\u062e\u062a\u0628\u0627\u0631")) == [[1, 0]]


def test_texts_without_words_are_not_alike() -> None:
    assert found(texts_of(":-)", ":-(", "!", "?")) == []


def photos(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth pictures ``[count, 64, 64, 3]`` that have nothing in common."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC)) for each in coarse])


def as_jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    output = BytesIO()
    Image.fromarray(picture).save(output, "JPEG", quality=quality)
    return np.asarray(Image.open(BytesIO(output.getvalue())).convert("RGB"))


def smaller(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((32, 32)).resize((64, 64)))


def brighter(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(picture * 1.02, 0, 255), np.uint8)


@pytest.mark.parametrize("copy", [lambda each: as_jpeg(each, 90), smaller, brighter])
def test_most_copies_of_pictures_in_another_quality_are_found(copy: Any) -> None:
    pictures = photos(300)
    pairs = found(np.concatenate([pictures, np.stack([copy(each) for each in pictures[:100]])]))
    assert all(one == other + 300 for one, other in pairs)
    assert len(pairs) >= 70


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_layout_and_scale_do_not_matter(scale: int, order: tuple[int, ...]) -> None:
    pictures = photos(20)
    pictures = np.concatenate([pictures, [brighter(pictures[7])]])
    samples = pictures.transpose(order) if scale == 255 else (pictures / 255).astype(np.float32).transpose(order)
    assert found(np.ascontiguousarray(samples)) == [[20, 7]]


def test_pictures_of_other_content_are_not_alike() -> None:
    assert found(photos(500)) == []
    flipped = np.concatenate([photos(50), photos(50)[:, :, ::-1], photos(50)[:, ::-1]])
    assert found(flipped) == []
    assert found(np.random.default_rng(0).integers(0, 256, (200, 20, 20), np.uint8)) == []


def test_plain_pictures_are_not_alike() -> None:
    shades = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None], (100, 16, 16))
    assert found(np.ascontiguousarray(shades)) == []


def test_vectors_are_not_compared() -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    assert found(np.concatenate([vectors, vectors * np.float32(1.0001)])) == []


@given(st.lists(st.text(st.sampled_from("ab,. "), max_size=4), min_size=1, max_size=12))
def test_each_pair_names_an_earlier_sample_and_each_sample_once(texts: list[str]) -> None:
    pairs = found(texts_of(*texts))
    assert all(other < one for one, other in pairs)
    assert len({one for one, _ in pairs}) == len(pairs)


def dataset_of(samples: NDArray[Any], names: tuple[str, ...] = ()) -> Dataset:
    layout, _ = layout_of(samples)
    return Dataset("pool", "", False, samples, None, CLASSES, None, None, names=names, layout=layout)


def test_a_note_counts_and_names_them_and_leaves_equal_samples_out() -> None:
    dataset = with_duplicates(dataset_of(texts_of("Yes!", "no", "yes", "yes"), ("n0", "n1", "n2", "n3")))
    notes = with_closer_look(dataset).notes
    assert "at least 1 sample is nearly equal to an earlier one, such as 'n2' and 'n0'" in " ".join(notes)
    assert with_closer_look(dataset).duplicates is dataset.duplicates
    unnamed = with_closer_look(dataset_of(texts_of("Yes!", "no", "yes", "YES"))).notes
    assert "at least 2 samples are nearly equal to an earlier one, such as 2 and 0; 3 and 0" in " ".join(unnamed)
    assert not with_closer_look(dataset_of(texts_of("yes", "no"))).notes


def test_a_note_says_when_features_are_learned_from_a_part_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(texts_of("one two", "three", "four"))
    assert not with_closer_look(dataset).notes
    monkeypatch.setattr(closer_look, "LEARN_FROM_SAMPLES", 2)
    [note] = with_closer_look(dataset).notes
    assert "drawn at random, 2 with 5,000,000 characters at most, of all 3 with 16" in note
    monkeypatch.setattr(closer_look, "LEARN_FROM_SAMPLES", 3)
    monkeypatch.setattr(closer_look, "LEARN_FROM_CHARACTERS", 15)
    assert len(with_closer_look(dataset).notes) == 1
    assert not with_closer_look(replace(dataset, graph=b"x")).notes


async def test_a_pool_is_looked_at_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "pool.csv").write_text("text\nYes!\nno\nyes\n")
    source = SourceMessage(name=str(tmp_path / "pool.csv"), text_column="text", classes=CLASSES)
    dataset = await DatasetCache(None, tmp_path, Places(tmp_path)).get(source)
    assert any("nearly equal" in note for note in dataset.notes)
