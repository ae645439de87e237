"""MNIST from the operator's folder, the cache and mirrors; damaged files are not used."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from labelloop.errors import Corrupt, NotFound
from structlog.testing import capture_logs

from oracle_svc.datasets import Dataset, DatasetSource, load
from oracle_svc.datasets.mirrors import http_fetch
from oracle_svc.datasets.mnist import load_mnist
from oracle_svc.datasets.mnist_files import MNIST_FILES, MnistFile

from .test_idx import to_idx

RNG = np.random.default_rng(0)
CONTENTS = [
    to_idx(RNG.integers(0, 256, (5, 28, 28)).astype(np.uint8)),
    to_idx(np.array([3, 1, 4, 1, 5], np.uint8)),
    to_idx(RNG.integers(0, 256, (2, 28, 28)).astype(np.uint8)),
    to_idx(np.array([9, 2], np.uint8)),
]
# A small MNIST: the real names, with the digests of the contents above.
FILES = [
    MnistFile(file.name, hashlib.sha256(content).hexdigest())
    for file, content in zip(MNIST_FILES, CONTENTS, strict=True)
]
BODIES = {f"{file.name}.gz": gzip.compress(content) for file, content in zip(FILES, CONTENTS, strict=True)}

Handler = Callable[[httpx.Request], httpx.Response]


def fill(folder: Path, *, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for file, content in zip(FILES, CONTENTS, strict=True):
        name = f"{file.name}.gz" if packed else file.name
        (folder / name).write_bytes(gzip.compress(content) if packed else content)
    return folder


def serve(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=BODIES[Path(request.url.path).name])


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"nothing should be downloaded, but {request.url} was")


def small_stand_in() -> Dataset:
    return Dataset("mnist", "a stand-in", True, np.zeros((1, 28, 28), np.uint8), None, ("0", "1"), None, None)


def read(data_dir: Path | None, cache_dir: Path, handler: Handler = never) -> Dataset:
    fetch = partial(http_fetch, transport=httpx.MockTransport(handler))
    return load_mnist(data_dir, cache_dir, files=FILES, fetch=fetch, stand_in=small_stand_in)


def is_small_mnist(dataset: Dataset) -> bool:
    assert dataset.labels is not None
    assert dataset.evaluation_labels is not None
    return (
        not dataset.stand_in
        and dataset.labels.tolist() == [3, 1, 4, 1, 5]
        and dataset.evaluation_labels.tolist() == [9, 2]
        and dataset.samples[:].tobytes() == CONTENTS[0][16:]
    )


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_the_operators_copy_is_used_without_download_or_cache(tmp_path: Path, packed: bool, subfolder: str) -> None:
    fill(tmp_path / "data" / subfolder, packed=packed)
    dataset = read(tmp_path / "data", tmp_path / "cache")
    assert is_small_mnist(dataset)
    assert dataset.name == "mnist"
    assert dataset.description == "MNIST: 5 training and 2 test images"
    assert dataset.classes == tuple("0123456789")
    assert dataset.samples.shape == (5, 28, 28)
    assert dataset.samples.dtype == np.uint8
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("change", [lambda data: data[:-10], lambda data: gzip.compress(b"something else")])
def test_a_damaged_operator_file_is_an_error_and_not_downloaded(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    damaged = fill(tmp_path / "data") / f"{FILES[2].name}.gz"
    damaged.write_bytes(change(damaged.read_bytes()))
    with pytest.raises(Corrupt) as caught:
        read(tmp_path / "data", tmp_path / "cache")
    assert str(damaged) in caught.value.message
    assert "eplace it with a whole copy" in caught.value.message
    assert all(value in caught.value.message for value in caught.value.values.values())


def test_a_missing_operator_file_is_an_error(tmp_path: Path) -> None:
    (fill(tmp_path / "data") / f"{FILES[1].name}.gz").unlink()
    with pytest.raises(NotFound, match=FILES[1].name) as caught:
        read(tmp_path / "data", tmp_path / "cache")
    assert caught.value.reason == "MNIST_FILE_MISSING"


def test_a_data_folder_without_mnist_is_skipped_with_a_warning(tmp_path: Path) -> None:
    fill(tmp_path / "cache" / "mnist")
    with capture_logs() as logs:
        assert is_small_mnist(read(tmp_path / "data", tmp_path / "cache"))
    assert [entry["event"] for entry in logs] == ["mnist_not_in_data_dir"]


def test_a_download_is_cached_and_not_repeated(tmp_path: Path) -> None:
    assert is_small_mnist(read(None, tmp_path, serve))
    assert is_small_mnist(read(None, tmp_path, never))
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(file.name for file in FILES)


def test_a_damaged_file_in_the_cache_is_downloaded_again(tmp_path: Path) -> None:
    damaged = fill(tmp_path / "mnist", packed=False) / FILES[0].name
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with capture_logs() as logs:
        assert is_small_mnist(read(None, tmp_path, serve))
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("mnist_cache_discarded", "warning")]
    assert damaged.read_bytes() == CONTENTS[0]


def test_a_cache_that_cannot_be_written_causes_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mnist").write_text("a file where the folder should be")
    with capture_logs() as logs:
        assert is_small_mnist(read(None, tmp_path, serve))
    assert {entry["event"] for entry in logs} == {"mnist_cache_not_written"}


@pytest.mark.skipif("LABELLOOP_DATA_DIR" not in os.environ, reason="LABELLOOP_DATA_DIR names no copy of MNIST")
def test_the_real_mnist_passes_its_digests(tmp_path: Path) -> None:
    dataset = load(DatasetSource("mnist"), data_dir=Path(os.environ["LABELLOOP_DATA_DIR"]), cache_dir=tmp_path)
    assert dataset.description == "MNIST: 60,000 training and 10,000 test images"
    assert dataset.samples.shape == (60_000, 28, 28)
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples.shape == (10_000, 28, 28)
    assert dataset.labels is not None
    assert dataset.labels[:5].tolist() == [5, 0, 4, 1, 9]
