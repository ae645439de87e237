"""Options of the client library are those of the command, by name, type and default."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from labelloop.errors import InvalidInput
from labelloop.events.v1.events_pb2 import PoolPublished
from labelloop_cli.commands.spec_options import SpecOptions
from labelloop_cli.library.options import RunOptions, document_of
from labelloop_cli.library.samples import pool_path, score_requests
from labelloop_cli.library.session import endpoints_of
from labelloop_cli.run_spec.layers import combined


def test_every_option_of_the_command_is_one_of_the_library() -> None:
    assert get_type_hints(RunOptions).keys() == get_type_hints(SpecOptions).keys() - {"dataset"}


def test_options_become_what_the_command_makes_of_them() -> None:
    command = combined(SpecOptions(dataset="p.npy", classes="a,b", budget=50), {"dataset", "classes", "budget"}, {})
    assert document_of("p.npy", {"classes": ["a", "b"], "budget": 50}, {}) == command


def test_a_class_name_may_hold_a_comma() -> None:
    assert document_of("p.npy", {"classes": ["a, b", "c"]}, {})["dataset"]["classes"] == ["a, b", "c"]


def test_without_a_pool_a_continued_run_keeps_its_own() -> None:
    assert document_of("", {"budget": 5}, {})["dataset"] == {}


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert document_of("p.npy", {"labels": Path("l.csv")}, {})["dataset"]["labels"] == str(tmp_path / "l.csv")


@pytest.mark.parametrize("host", ["host:5", "http://host"])
def test_a_host_with_a_port_is_refused(host: str) -> None:
    with pytest.raises(InvalidInput, match="trainer=, scorer= and oracle= take host:port"):
        endpoints_of(host)


def test_a_host_stands_for_all_services_but_those_that_are_named() -> None:
    found = endpoints_of("::1", oracle="other:9")
    assert (found.trainer, found.scorer, found.oracle) == ("[::1]:50051", "[::1]:50052", "other:9")


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(InvalidInput, match="LABELLOOP_RETRY_S: Input should be greater than or equal to 0"):
        endpoints_of(retry_s=-1.0)


def test_an_array_is_a_pool_for_as_long_as_it_is_read() -> None:
    with pool_path(np.arange(6).reshape(3, 2)) as (path, temporary):
        assert temporary
        assert np.load(path).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert not Path(path).exists()


def test_an_array_of_objects_is_no_pool() -> None:
    with pytest.raises(ValueError, match="Object arrays"), pool_path(np.array([{}])):
        pass


def test_samples_are_split_and_converted() -> None:
    pool = PoolPublished(shape=[2, 2], dtype="float32")
    requests = [*score_requests(pool, np.ones((2_500, 2, 2), np.float64), probabilities=True)]
    assert [len(each.images) for each in requests] == [16_000, 16_000, 8_000]
    assert {(each.dtype, each.with_probabilities) for each in requests} == {("float32", True)}


def test_texts_are_not_an_array_of_characters() -> None:
    with pytest.raises(InvalidInput, match="give a list of str"):
        next(score_requests(PoolPublished(shape=[1], dtype="utf8"), "text", probabilities=False))
