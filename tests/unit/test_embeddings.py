"""Vectors beside a pool: models see them, people see what they were made of, and none stands at another sample."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.domain.event_schema import shape_fault
from labelloop.domain.shown_pool import shown_pool
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded, NotFound
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage
from labelloop.events.v1.events_pb2 import Event, PoolPublished, SampleKind, ShownPool
from numpy.typing import NDArray
from PIL import Image

from oracle_svc.datasets import Dataset, DatasetSource, load
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.duplicates import first_equal
from oracle_svc.datasets.identity import dataset_digest
from oracle_svc.datasets.limit import limited
from oracle_svc.datasets.matching import found_ids
from oracle_svc.datasets.places import Places
from oracle_svc.samples.published_pools import PublishedPools
from tests.published import artifacts_in, published

TEXTS = ["one", "two, or more", "three", "four"]


def vectors(count: int, width: int = 3) -> NDArray[np.float32]:
    """Vectors whose first value is the number of their row."""
    made = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    made[:, 0] = np.arange(count)
    return made


def text_source(folder: Path, texts: list[str] = TEXTS, **changes: Any) -> DatasetSource:
    table = folder / "texts.csv"
    rows = [f'n{place},"{text}",{place % 2}' for place, text in enumerate(texts)]
    table.write_text("\n".join(["id,text,kind", *rows]))
    columns = {"text_column": "text", "id_column": "id", "label_column": "kind"}
    return DatasetSource(**({"name": str(table), **columns} | changes))


def picture_source(folder: Path, sizes: tuple[int, ...] = (8, 8, 8), **changes: Any) -> DatasetSource:
    for place, size in enumerate(sizes):
        path = folder / "pictures" / f"{place % 2}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (size, 8), place).save(path)
    return DatasetSource(name=str(folder / "pictures"), **changes)


def saved(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


def packed(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def loaded(source: DatasetSource, folder: Path) -> Dataset:
    return load(source, data_dir=None, cache_dir=folder)


def refused(source: DatasetSource, folder: Path) -> LabelloopError:
    with pytest.raises(LabelloopError) as caught:
        loaded(source, folder)
    return caught.value


def test_models_see_vectors_and_people_see_texts(tmp_path: Path) -> None:
    dataset = loaded(text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(4))), tmp_path)
    assert np.array_equal(dataset.samples[:], vectors(4))
    assert dataset.layout is not None
    assert dataset.layout.kind == SampleKind.SAMPLE_KIND_VECTOR
    assert dataset.shown is not None
    assert dataset.shown.samples[:].tolist() == TEXTS
    assert dataset.shown.layout is not None
    assert dataset.shown.layout.kind == SampleKind.SAMPLE_KIND_TEXT
    assert list(dataset.names) == ["n0", "n1", "n2", "n3"]
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    told = " ".join(dataset.notes)
    assert "models see the 3 values of each row of" in told
    assert "row 0 is taken for 'n0' and row 3 for 'n3'" in told
    assert "the exported model takes these vectors" in told


def test_rows_of_pictures_are_in_the_order_of_class_and_name(tmp_path: Path) -> None:
    dataset = loaded(picture_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(3))), tmp_path)
    assert list(dataset.names) == ["0/0.png", "0/2.png", "1/1.png"]
    assert dataset.shown is not None
    assert dataset.shown.samples[:, 0, 0].tolist() == [0, 2, 1]
    assert dataset.samples[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [3, 5])
def test_another_number_of_vectors_is_refused_with_both_numbers(tmp_path: Path, count: int) -> None:
    error = refused(text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(count))), tmp_path)
    assert (type(error), error.reason, error.field) == (InvalidInput, "EMBEDDINGS_COUNT", "embeddings")
    assert f"{count} vectors" in error.message
    assert "4 samples" in error.message


def test_vectors_without_names_are_refused_where_samples_may_be_left_out(tmp_path: Path) -> None:
    source = text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(4)), skip_bad=True)
    error = refused(source, tmp_path)
    assert (error.reason, error.field) == ("EMBEDDINGS_UNNAMED", "embeddings")
    assert ".npz" in error.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.permutations(range(4)), st.sets(st.integers(0, 3), max_size=3))
def test_named_vectors_stand_at_their_samples_whatever_is_left_out(
    tmp_path: Path, order: list[int], empty: set[int]
) -> None:
    texts = ["" if place in empty else text for place, text in enumerate(TEXTS)]
    path = packed(tmp_path / "e.npz", names=[f"n{place}" for place in order], embeddings=vectors(4)[order])
    labels = {"label_column": "", "classes": ("0", "1")}
    dataset = loaded(text_source(tmp_path, texts, embeddings=path, skip_bad=True, **labels), tmp_path)
    assert [f"n{int(value)}" for value in dataset.samples[:, 0]] == list(dataset.names)
    assert dataset.shown is not None
    assert dataset.shown.samples[:].tolist() == [text for text in texts if text]
    assert any(f"{len(empty)} vector" in note for note in dataset.notes) == bool(empty)


def test_a_sample_without_a_vector_is_refused_by_name(tmp_path: Path) -> None:
    path = packed(tmp_path / "e.npz", names=["n0", "n1", "N3", "n3"], embeddings=vectors(4))
    error = refused(text_source(tmp_path, embeddings=path), tmp_path)
    assert (error.reason, error.field) == ("EMBEDDINGS_MISSING", "embeddings")
    assert "1 of 4 samples" in error.message
    assert "'n2'" in error.message


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"names": ["n0", "n0", "n1", "n2", "n3"], "embeddings": vectors(5)}, "EMBEDDINGS_NAMED_TWICE"),
        ({"names": ["n0", "n1", "n2"], "embeddings": vectors(4)}, "EMBEDDINGS_COUNT"),
        ({"ids": ["n0", "n1", "n2", "n3"], "embeddings": vectors(4)}, "EMBEDDINGS_FORMAT"),
        ({"names": [0, 1, 2, 3], "embeddings": vectors(4)}, "EMBEDDINGS_FORMAT"),
        ({"names": np.array(["n0", None], object), "embeddings": vectors(2)}, "NPY_DAMAGED"),
    ],
)
def test_named_vectors_that_are_not_clear_are_refused(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    error = refused(text_source(tmp_path, embeddings=packed(tmp_path / "e.npz", **arrays)), tmp_path)
    assert error.reason == reason
    assert "e.npz" in error.message


def test_names_need_samples_with_names(tmp_path: Path) -> None:
    path = packed(tmp_path / "e.npz", names=["n0", "n1", "n2", "n3"], embeddings=vectors(4))
    error = refused(text_source(tmp_path, embeddings=path, id_column=""), tmp_path)
    assert (error.reason, error.field) == ("EMBEDDINGS_NAMES", "embeddings")
    assert "--id" in error.message


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(4, np.float32), "EMBEDDINGS_SHAPE"),
        (np.zeros((4, 2, 2), np.float32), "EMBEDDINGS_SHAPE"),
        (np.zeros((4, 0), np.float32), "EMBEDDINGS_SHAPE"),
        (np.array([["a"], ["b"], ["c"], ["d"]]), "EMBEDDINGS_DTYPE"),
        (np.zeros((4, 2), complex), "EMBEDDINGS_DTYPE"),
        (np.array([[0.0], [1], [np.nan], [2]]), "SAMPLE_VALUE"),
        (np.array([[0.0], [1], [1e30], [2]]), "SAMPLE_VALUE"),
    ],
)
def test_what_is_no_vectors_is_refused(tmp_path: Path, array: NDArray[Any], reason: str) -> None:
    error = refused(text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", array)), tmp_path)
    assert (error.reason, error.field) == (reason, "embeddings")


def test_whole_numbers_and_halves_become_floats(tmp_path: Path) -> None:
    for dtype in (np.int8, np.uint8, np.float16, np.float64):
        path = saved(tmp_path / "e.npy", np.arange(8).reshape(4, 2).astype(dtype))
        dataset = loaded(text_source(tmp_path, embeddings=path), tmp_path)
        assert dataset.samples.dtype == np.float32
        assert dataset.samples[:].ravel().tolist() == [*range(8)]


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    path.write_bytes(b"PK\x03\x04 no archive")
    assert isinstance(refused(text_source(tmp_path, embeddings=str(path)), tmp_path), Corrupt)
    missing = refused(text_source(tmp_path, embeddings=str(tmp_path / "none.npy")), tmp_path)
    assert (type(missing), missing.field) == (NotFound, "embeddings")


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (4, 2**38)})
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as archive:
        archive.writestr("embeddings.npy", header.getvalue() + bytes(64))
        archive.writestr("names.npy", b"")
    error = refused(text_source(tmp_path, embeddings=str(tmp_path / "e.npz")), tmp_path)
    assert error.reason in ("NPY_DAMAGED", "DATA_TOO_LARGE")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oracle_svc.datasets.reading.DATA_BYTES_MAX", 10_000)
    np.savez_compressed(tmp_path / "e.npz", names=["n0"], embeddings=np.zeros((1, 10_000)))
    error = refused(text_source(tmp_path, embeddings=str(tmp_path / "e.npz")), tmp_path)
    assert isinstance(error, LimitExceeded)
    assert error.reason == "DATA_TOO_LARGE"


def test_an_evaluation_set_needs_vectors_too(tmp_path: Path) -> None:
    source = text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(4)))
    with_evaluation = replace(source, evaluation=source.name)
    error = refused(with_evaluation, tmp_path)
    assert (error.reason, error.field) == ("EVALUATION_EMBEDDINGS_MISSING", "evaluation_embeddings")
    dataset = loaded(replace(with_evaluation, evaluation_embeddings=source.embeddings), tmp_path)
    assert dataset.evaluation_samples is not None
    assert np.array_equal(dataset.evaluation_samples, vectors(4))
    assert any(note.startswith("evaluation set: models see") for note in dataset.notes)
    wider = saved(tmp_path / "wide.npy", vectors(4, width=5))
    error = refused(replace(with_evaluation, evaluation_embeddings=wider), tmp_path)
    assert (error.reason, error.field) == ("EVALUATION_KIND", "evaluation_embeddings")


def test_settings_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "e.npy", vectors(4))
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"x")
    for changes, reason, field in (
        ({"embeddings": path, "graph": str(graph)}, "GRAPH_WITH_EMBEDDINGS", "graph"),
        ({"evaluation_embeddings": path}, "EMBEDDINGS_MISSING", "embeddings"),
        ({"embeddings": path, "evaluation_embeddings": path}, "EVALUATION_MISSING", "evaluation"),
        ({"embeddings": path, "columns": ("text",), "text_column": ""}, "COLUMNS_UNSEEN", "columns"),
    ):
        error = refused(text_source(tmp_path, **changes), tmp_path)
        assert (error.reason, error.field) == (reason, field)


def test_the_digest_covers_what_models_and_what_people_see(tmp_path: Path) -> None:
    path = saved(tmp_path / "e.npy", vectors(4))
    dataset = loaded(text_source(tmp_path, embeddings=path), tmp_path)
    others = [
        loaded(text_source(tmp_path, [*TEXTS[:3], "another"], embeddings=path), tmp_path),
        loaded(text_source(tmp_path, embeddings=saved(tmp_path / "f.npy", vectors(4) + 1)), tmp_path),
        loaded(text_source(tmp_path), tmp_path),
    ]
    assert dataset_digest(dataset) not in {dataset_digest(other) for other in others}
    assert dataset_digest(dataset) == dataset_digest(loaded(text_source(tmp_path, embeddings=path), tmp_path))


def test_samples_are_equal_if_vector_and_text_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "e.npy", np.array([[0.0], [0], [0], [1]]))
    dataset = loaded(text_source(tmp_path, ["a", "a", "b", "a"], embeddings=path), tmp_path)
    assert first_equal(dataset).tolist() == [0, 0, 2, 3]


def test_a_limit_draws_vectors_and_texts_together(tmp_path: Path) -> None:
    dataset = loaded(text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(4))), tmp_path)
    for seed in range(4):
        drawn = limited(dataset, 2, seed)
        assert drawn.shown is not None
        rows = drawn.samples[:, 0].astype(int)
        assert drawn.shown.samples[:].tolist() == [TEXTS[row] for row in rows]
        assert list(drawn.names) == [f"n{row}" for row in rows]
        assert len(drawn.files) == 2


async def test_the_cache_reads_vectors_again_when_they_change(tmp_path: Path) -> None:
    path = saved(tmp_path / "e.npy", vectors(4))
    source = text_source(tmp_path)
    message = SourceMessage(name=source.name, text_column="text", label_column="kind", embeddings=path)
    cache = DatasetCache(None, tmp_path, Places(tmp_path))
    before = await cache.get(message)
    saved(tmp_path / "e.npy", vectors(4) + 1)
    after = await cache.get(message)
    assert np.array_equal(after.samples[:], before.samples[:] + 1)
    assert after.sha256 != before.sha256


def message(source: DatasetSource) -> SourceMessage:
    return SourceMessage(
        name=source.name,
        embeddings=source.embeddings,
        text_column=source.text_column,
        id_column=source.id_column,
        label_column=source.label_column,
    )


def pools_in(folder: Path) -> PublishedPools:
    artifacts = artifacts_in(folder)
    return PublishedPools(artifacts, ArtifactCache(artifacts, folder / "cached", 10**9))


async def test_vectors_are_published_for_models_and_texts_for_people(tmp_path: Path) -> None:
    source = text_source(tmp_path, embeddings=saved(tmp_path / "e.npy", vectors(4)))
    pool = await published(message(source), tmp_path)
    assert (pool.dtype, list(pool.shape), pool.sample_count) == ("float32", [3], 4)
    assert (pool.shown.dtype, list(pool.shown.shape)) == ("utf8", [1])
    assert not shape_fault(Event(pool_published=pool))
    pools = pools_in(tmp_path)
    for sample_id, text in enumerate(TEXTS):
        model_sees = await pools.sample(pool.pool_sha256, sample_id)
        people_see = await pools.sample(shown_pool(pool).pool_sha256, sample_id)
        assert np.array_equal(model_sees.value, vectors(4)[sample_id])
        assert (people_see.value, people_see.name, model_sees.name) == (text, f"n{sample_id}", f"n{sample_id}")


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 9, 10)])
async def test_people_see_pictures_as_they_do_without_vectors(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    plain = picture_source(tmp_path, sizes)
    without = await published(message(plain), tmp_path)
    path = saved(tmp_path / "e.npy", vectors(3))
    pool = await published(message(replace(plain, embeddings=path)), tmp_path)
    assert pool.shown.pool_sha256 == without.pool_sha256
    assert shown_pool(without).pool_sha256 == without.pool_sha256
    pools = pools_in(tmp_path)
    for sample_id in range(3):
        seen = await pools.sample(pool.shown.pool_sha256, sample_id)
        assert (seen.original is not None) == (len({*sizes}) > 1)
        plainly = await pools.sample(without.pool_sha256, sample_id)
        assert np.array_equal(seen.value, plainly.value)
        assert seen.original == plainly.original


async def test_samples_are_found_again_by_vector_and_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "e.npy", vectors(4))
    pool = await published(message(text_source(tmp_path, embeddings=path)), tmp_path)
    pools = pools_in(tmp_path)
    digests, names = await pools.digests(pool.pool_sha256, range(4)), await pools.names(pool.pool_sha256, range(4))
    saved(tmp_path / "f.npy", vectors(5)[[4, 3, 2, 1, 0]])
    grown = text_source(tmp_path, ["new", *reversed(TEXTS)], embeddings=str(tmp_path / "f.npy"))
    assert found_ids(range(4), digests, names, loaded(grown, tmp_path)) == [4, 3, 2, 1]
    other_vectors = saved(tmp_path / "g.npy", vectors(5))
    for texts, embeddings in ((["new", "another", *TEXTS[2::-1]], grown.embeddings), (TEXTS[:0:-1], other_vectors)):
        other = loaded(text_source(tmp_path, ["new", "old", *texts][-5:], embeddings=embeddings), tmp_path)
        with pytest.raises(LabelloopError) as caught:
            found_ids(range(4), digests, names, other)
        assert caught.value.reason == "DATASET_CHANGED"


@pytest.mark.parametrize(
    "shown",
    [
        ShownPool(),
        ShownPool(pool_sha256="a" * 64, dtype="utf8"),
        ShownPool(pool_sha256="a" * 64, dtype="object", shape=[1]),
        ShownPool(pool_sha256="../etc", dtype="utf8", shape=[1]),
    ],
)
def test_an_event_with_a_broken_pool_to_show_is_refused(shown: ShownPool) -> None:
    pool = PoolPublished(pool_sha256="b" * 64, sample_count=1, shape=[2], dtype="float32", classes=["a", "b"])
    assert not shape_fault(Event(pool_published=pool))
    pool.shown.CopyFrom(shown)
    assert shape_fault(Event(pool_published=pool))
