"""Which files runs may name on services that the command starts."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from labelloop.errors import InvalidInput
from labelloop_cli.local.stack import HIDDEN_FILES, POOLS_DIR, files_settings, pools_folder

from oracle_svc.datasets import DatasetSource
from oracle_svc.datasets.hidden_files import HiddenFiles
from oracle_svc.datasets.places import Places


def test_runs_name_files_in_the_working_folder_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(POOLS_DIR)
    monkeypatch.chdir(tmp_path)
    assert pools_folder() == tmp_path
    monkeypatch.setenv(POOLS_DIR, "/pools")
    assert pools_folder() == Path("/pools")


@pytest.mark.parametrize("name", ["labelloop-data", "data, with [odd] *names*?", "a/b"])
def test_the_store_with_its_logs_is_hidden_from_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(HIDDEN_FILES, "truth.csv")
    store = tmp_path / name
    (store / "logs").mkdir(parents=True)
    settings = files_settings(tmp_path, store)
    places = Places(Path(settings[POOLS_DIR]), HiddenFiles.of(settings[HIDDEN_FILES]))
    for path in (store, store / "logs" / "oracle.log", tmp_path / "truth.csv"):
        with pytest.raises(InvalidInput) as refused:
            places.located(DatasetSource(str(path)))
        assert refused.value.reason == "PATH_OUTSIDE"
    pool = str(tmp_path / "pool.npy")
    assert places.located(DatasetSource(pool)).name == pool


def test_a_store_beside_the_pools_needs_no_hiding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HIDDEN_FILES, raising=False)
    assert files_settings(tmp_path / "pools", tmp_path)[HIDDEN_FILES] == ""


def test_a_store_in_the_folder_of_pools_itself_is_hidden(tmp_path: Path) -> None:
    hidden = HiddenFiles.of(files_settings(tmp_path, tmp_path)[HIDDEN_FILES])
    assert all(hidden.matches(PurePath(name, "file")) for name in ("nats", "logs", "cache"))
    assert not hidden.matches(PurePath("photos"))
