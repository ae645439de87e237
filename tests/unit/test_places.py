"""Which paths on the oracle's machine runs may name, and that a refusal tells nothing of what lies there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import DatasetSource as SourceMessage

from oracle_svc.config import OracleSettings
from oracle_svc.datasets import DatasetSource, file_access
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.hidden_files import HiddenFiles
from oracle_svc.datasets.places import PATHS, Places

POOL = np.arange(24, dtype=np.uint8).reshape(4, 6)


@pytest.fixture
def pools(tmp_path: Path) -> Path:
    folder = tmp_path / "pools"
    folder.mkdir()
    np.save(folder / "pool.npy", POOL)
    np.save(tmp_path / "secret.npy", POOL)
    return folder


def refused(places: Places, text: str | Path, field: str = "name") -> InvalidInput:
    named: dict[str, Any] = {"name": "mnist", field: str(text)}
    with pytest.raises(InvalidInput) as caught:
        places.located(DatasetSource(**named))
    assert caught.value.field == field
    return caught.value


def outside_message(places: Places, text: str | Path, field: str = "name") -> str:
    error = refused(places, text, field)
    assert error.reason == "PATH_OUTSIDE"
    return error.message.replace(repr(str(text)), "PATH")


def place(places: Places, text: str | Path) -> str:
    return places.located(DatasetSource(str(text))).name


WAYS_OUT: dict[str, Callable[[Path], str]] = {
    "absolute": lambda pools: str(pools.parent / "secret.npy"),
    "upwards": lambda pools: f"{pools}/../secret.npy",
    "upwards through a folder that is not there": lambda pools: f"{pools}/no/../../secret.npy",
    "a folder that begins alike": lambda pools: f"{pools}2/x.npy",
    "in other letters": lambda pools: str(pools).upper() + "/pool.npy",
    "a URL": lambda pools: f"file://{pools}/pool.npy",
    "relative": lambda pools: "secret.npy",
    "home": lambda pools: "~/secret.npy",
    "proc": lambda pools: "/proc/self/environ",
    "a descriptor": lambda pools: "/dev/fd/0",
    "no path at all": lambda pools: "\0",
    "a file that is not there": lambda pools: "/no/such/file",
    "a file that may not be read": lambda pools: "/etc/shadow",
    "too long": lambda pools: "/" + "x" * 5_000,
}


@pytest.mark.parametrize("field", PATHS)
@pytest.mark.parametrize("way", WAYS_OUT)
def test_paths_outside_are_refused_in_the_same_words_without_a_look(
    pools: Path, field: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = WAYS_OUT[way](pools)
    expected = outside_message(Places(pools), "/elsewhere", field)

    def looked(*args: object, **kwargs: object) -> None:
        raise AssertionError("the file system was asked")

    places = Places(pools)
    root = pools.resolve()
    monkeypatch.setattr(Path, "resolve", lambda path: root)  # of the operator's own folder
    for name in ("stat", "lstat", "readlink", "open"):
        monkeypatch.setattr(os, name, looked)
    assert outside_message(places, text, field) == expected


@pytest.mark.parametrize("target", ["secret.npy", "absent.npy", "/etc/shadow", "/proc/self/environ", ".."])
def test_links_that_lead_outside_are_refused_alike_whatever_they_lead_to(pools: Path, target: str) -> None:
    (pools / "link").symlink_to(target if target.startswith("/") or target == ".." else pools.parent / target)
    assert outside_message(Places(pools), pools / "link") == outside_message(Places(pools), "/elsewhere")


def test_where_a_link_leads_outside_is_never_asked_for(pools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pools / "out").symlink_to("/etc")
    seen: list[Path] = []
    look = file_access.status_of

    def noted(path: Path) -> os.stat_result:
        seen.append(path)
        return look(path)

    monkeypatch.setattr("oracle_svc.datasets.places.status_of", noted)
    outside_message(Places(pools), pools / "out" / "shadow")
    assert seen == [pools / "out"]


def test_links_that_stay_inside_lead_to_what_is_read(pools: Path) -> None:
    (pools / "sets").mkdir()
    np.save(pools / "sets" / "x.npy", POOL)
    (pools / "latest").symlink_to("sets")
    (pools / "absolute").symlink_to(pools / "latest" / "x.npy")
    (pools / "sets" / "up").symlink_to("../pool.npy")
    places = Places(pools)
    assert place(places, pools / "latest" / "x.npy") == str(pools / "sets" / "x.npy")
    assert place(places, pools / "absolute") == str(pools / "sets" / "x.npy")
    assert place(places, pools / "latest" / "up") == str(pools / "pool.npy")


def test_links_in_a_circle_are_refused(pools: Path) -> None:
    (pools / "a").symlink_to("b")
    (pools / "b").symlink_to("a")
    outside_message(Places(pools), pools / "a")


def test_the_folder_itself_may_be_a_link(pools: Path) -> None:
    (pools.parent / "link").symlink_to(pools)
    places = Places(pools.parent / "link")
    assert place(places, pools.parent / "link" / "pool.npy") == str(pools / "pool.npy")
    assert place(places, pools / "pool.npy") == str(pools / "pool.npy")


@pytest.mark.parametrize("spelled", ["pool.npy", "./pool.npy", "sub/../pool.npy", "/pool.npy", "pool.npy/"])
def test_spellings_of_a_path_inside_are_one_path(pools: Path, spelled: str) -> None:
    assert place(Places(pools), f"{pools}/{spelled}") == str(pools / "pool.npy")


@pytest.mark.parametrize("inside", [".env", ".git/config", "sets/.hidden/x.npy", "absent/.x"])
def test_names_that_begin_with_a_dot_are_refused(pools: Path, inside: str) -> None:
    assert outside_message(Places(pools), pools / inside) == outside_message(Places(pools), "/elsewhere")


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/1/root/etc/shadow", "/sys/kernel", "/dev/zero", "/dev"])
def test_the_systems_own_files_are_refused_even_below_the_root(path: str) -> None:
    outside_message(Places(Path("/")), path)


@given(st.lists(st.sampled_from(["..", ".", "a", "out", "in", "", "pool.npy", "~", "\0", "file:"]), max_size=8))
def test_no_path_leads_outside(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        pools = Path(name).resolve() / "pools"
        (pools / "a").mkdir(parents=True)
        (pools / "out").symlink_to("..")
        (pools / "a" / "in").symlink_to("../a")
        try:
            found = place(Places(pools), "/".join([str(pools), *parts]))
        except InvalidInput as error:
            found = str(pools)
            assert error.reason == "PATH_OUTSIDE"  # noqa: PT017
        assert Path(found).is_relative_to(pools)
        assert Path(found) == Path(found).resolve()


def test_without_a_folder_paths_are_refused_with_what_to_do(pools: Path) -> None:
    for text in (pools / "pool.npy", "/no/such/file"):
        error = refused(Places(None), text)
        assert error.reason == "PATHS_REFUSED"
        assert "`labelloop pool push`" in error.message
        assert "LABELLOOP_POOLS_DIR" in error.message
    assert place(Places(None), "mnist") == "mnist"


def test_an_oracle_reads_no_paths_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABELLOOP_POOLS_DIR", raising=False)
    assert OracleSettings().pools_dir is None


@pytest.mark.parametrize("pattern", ["truth/*", "TRUTH", "*.secret.npy", "tr?th/", "pool.npy,truth/y.secret.npy"])
def test_hidden_files_are_refused_as_if_they_lay_outside(pools: Path, pattern: str) -> None:
    (pools / "truth").mkdir()
    np.save(pools / "truth" / "y.secret.npy", POOL)
    (pools / "link").symlink_to("truth/y.secret.npy")
    places = Places(pools, HiddenFiles.of(pattern))
    for path in (pools / "truth" / "y.secret.npy", pools / "link"):
        for field in PATHS:
            assert outside_message(places, path, field) == outside_message(places, "/elsewhere", field)


def test_a_folder_with_hidden_files_is_refused_and_others_are_read(pools: Path) -> None:
    (pools / "a" / "b").mkdir(parents=True)
    (pools / "c").mkdir()
    np.save(pools / "a" / "b" / "truth.npy", POOL)
    places = Places(pools, HiddenFiles.of("*truth.npy"))
    for folder in (pools, pools / "a", pools / "a" / "b"):
        if folder != pools:  # too deep to be read from there
            assert refused(places, folder).reason == "HOLDS_HIDDEN"
    assert place(places, pools / "c") == str(pools / "c")


@pytest.mark.parametrize("pattern", ["/etc/*", "../x", "a/../b"])
def test_patterns_that_match_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="matches no path below the folder of pools"):
        HiddenFiles.of(pattern)


@pytest.mark.parametrize("field", ["name", "graph", "embeddings", "evaluation"])
@pytest.mark.parametrize("how", ["the same path", "a hard link", "a link"])
async def test_a_file_of_labels_is_nothing_else_in_a_run(tmp_path: Path, pools: Path, field: str, how: str) -> None:
    labels = pools / "y.npy"
    np.save(labels, np.array([0, 1, 0, 1]))
    other = pools / "other.npy"
    if how == "the same path":
        other = labels
    elif how == "a hard link":
        other.hardlink_to(labels)
    else:
        other.symlink_to(labels)
    named: dict[str, Any] = {"name": str(pools / "pool.npy"), "labels": str(labels), field: str(other)}
    with pytest.raises(InvalidInput) as caught:
        await DatasetCache(None, tmp_path / "cache", Places(pools)).get(SourceMessage(**named))
    assert (caught.value.reason, caught.value.field) == ("FILE_IN_TWO_ROLES", f"dataset.{field}")


async def test_labels_of_pool_and_evaluation_may_be_one_file(tmp_path: Path, pools: Path) -> None:
    np.save(pools / "y.npy", np.array([0, 1, 0, 1]))
    pool, labels = str(pools / "pool.npy"), str(pools / "y.npy")
    source = SourceMessage(name=pool, labels=labels, evaluation=pool, evaluation_labels=labels)
    assert (await DatasetCache(None, tmp_path / "cache", Places(pools)).get(source)).labels is not None
