"""MNIST from the mirrors, one good one of which is enough; and the stand-in, when there is none."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from oracle_svc.datasets.mirrors import MNIST_MIRRORS
from oracle_svc.datasets.mnist_files import from_cache_or_mirrors
from oracle_svc.datasets.stand_in import mnist_stand_in

from .test_datasets_mnist import FILES, Handler, is_small_mnist, read, serve

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


def test_a_mirror_may_redirect_and_unpack_on_the_way(tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host != "elsewhere.example":
            return httpx.Response(302, headers={"location": f"https://elsewhere.example{request.url.path}"})
        return httpx.Response(200, content=serve(request).content, headers={"content-encoding": "gzip"})

    assert is_small_mnist(read(None, tmp_path, handler))


def test_without_any_mirror_the_stand_in_is_announced(tmp_path: Path) -> None:
    with capture_logs() as logs:
        dataset = read(None, tmp_path, no_network)
    assert dataset.stand_in
    assert [entry["event"] for entry in logs] == ["mirror_failed"] * len(MNIST_MIRRORS) + ["mnist_stand_in"]


def test_mirrors_that_swallow_every_packet_are_not_waited_for(tmp_path: Path) -> None:
    end = threading.Event()

    def swallow(url: str) -> bytes:
        end.wait(60)
        raise TimeoutError(url)

    start = time.monotonic()
    found = from_cache_or_mirrors(tmp_path, FILES, swallow, mirrors=["a/", "b/", "c/"], answer_within_s=0.05)
    assert found is None
    assert time.monotonic() - start < 2
    end.set()


def test_the_stand_in_is_real_digits_shuffled_the_same_way_each_time() -> None:
    dataset = mnist_stand_in()
    assert dataset.stand_in
    assert "STAND-IN" in dataset.description
    assert "published figures do not apply" in dataset.description
    assert dataset.samples.shape == (4_000, 28, 28)
    assert dataset.samples.dtype == np.uint8
    assert dataset.samples.flags.c_contiguous
    assert dataset.evaluation_samples is not None
    assert dataset.evaluation_samples.shape == (1_000, 28, 28)
    assert dataset.labels is not None
    assert dataset.evaluation_labels is not None
    digits = np.concatenate([dataset.labels, dataset.evaluation_labels])
    assert digits.dtype == np.int32
    assert np.bincount(digits).tolist() == [500] * 10
    # The pool's digest is part of a run's log: another order would be another pool.
    assert (
        hashlib.sha256(dataset.samples.tobytes()).hexdigest()
        == "2ebc67503666638cafa60e0790ff8da850fea3630f44a31de6d17c99d77ce66b"
    )
