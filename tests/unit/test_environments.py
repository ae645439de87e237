"""Set-up of environments: the choice of Python, PyTorch and groups, without installing anything."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from environments import environment, pythons, torch_source
from environments.environment import (
    GROUPS,
    Choice,
    State,
    choose,
    covers,
    interpreters,
    kept_source,
    read_state,
    serves,
    torch_limits,
    write_state,
)
from environments.pythons import Interpreter, find_interpreters, inspect
from environments.torch_source import TorchSource
from environments.uv import SetUpError, run

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STATE = State("d", sys.executable, ["run"], "torch==1", Choice())
OLD, NEW = Interpreter("/old", (3, 11)), Interpreter("/new", (3, 13))


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_supported_versions_are_those_of_the_project() -> None:
    lowest, highest = min(pythons.SUPPORTED), max(pythons.SUPPORTED)
    assert PROJECT["project"]["requires-python"] == f">={lowest[0]}.{lowest[1]},<{highest[0]}.{highest[1] + 1}"
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert named == [f"{major}.{minor}" for major, minor in reversed(pythons.SUPPORTED)]


def test_groups_list_declared_extras_and_included_dependency_groups() -> None:
    declared = PROJECT["dependency-groups"]
    for extras, groups in GROUPS.values():
        assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
        included = {each["include-group"] for name in groups for each in declared[name] if isinstance(each, dict)}
        assert included <= set(groups)


@pytest.mark.parametrize(
    ("groups", "group", "expected"),
    [
        (["check"], "test", True),
        (["check"], "run", True),
        (["queues"], "check", False),
        (["run"], "test", False),
        ([], "run", False),
    ],
)
def test_an_installed_group_covers_the_groups_within_it(groups: list[str], group: str, expected: bool) -> None:
    assert covers(groups, group) is expected


def test_interpreters_are_found_despite_a_broken_command_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pyenv leaves commands on the PATH that fail for each version that is installed but not chosen."""
    name = "python" + ".".join(map(str, sys.version_info[:2]))
    script(tmp_path / name, "exit 127")
    assert inspect(str(tmp_path / name)) is None
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    versions = [each.version for each in find_interpreters()]
    assert sys.version_info[:2] in versions
    assert versions == sorted(set(versions), reverse=True)


@pytest.mark.parametrize(
    ("text", "message"), [("exit 1", "does not run"), ("printf 'cpython\\n3\\n9\\n/nine\\n'", "supports 3.11, 3.12")]
)
def test_an_unusable_named_python_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SetUpError, match=message):
        interpreters(str(script(tmp_path / "python", text)))


def answers(monkeypatch: pytest.MonkeyPatch, *, index: bool, by_pip: set[tuple[int, int]]) -> None:
    """Have PyTorch's index answer or not, and pip find CPU builds for the versions ``by_pip``."""
    source = TorchSource("torch==1", (), "index")
    monkeypatch.setattr(environment, "index_source", lambda *_: source if index else None)
    monkeypatch.setattr(
        environment,
        "pip_source",
        lambda _, python, __: TorchSource("torch @ file:///w", (), "pip") if python.version in by_pip else None,
    )


def test_the_newest_python_is_chosen_if_the_index_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, index=True, by_pip=set())
    assert choose([NEW, OLD], "cpu") == (NEW, TorchSource("torch==1", (), "index"))


def test_the_newest_python_with_a_cpu_build_is_chosen_if_only_pip_finds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, index=False, by_pip={OLD.version})
    assert choose([NEW, OLD], "cpu") == (OLD, TorchSource("torch @ file:///w", (), "pip"))


def test_cuda_is_never_installed_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, index=False, by_pip=set())
    with pytest.raises(SetUpError, match="TORCH=cuda"):
        choose([NEW, OLD], "cpu")
    assert choose([NEW, OLD], "cpu-or-none") == (NEW, None)
    asked_for = choose([NEW, OLD], "cuda")[1]
    assert asked_for is not None
    assert asked_for.requirement == f"torch=={PROJECT['tool']['labelloop']['torch']}"


def test_pip_is_asked_for_the_cpu_build_only(tmp_path: Path) -> None:
    """A plain version would match PyPI's build with CUDA, which pip downloads to look into."""
    asked = tmp_path / "asked"
    pip = script(tmp_path / "pip", f'echo "$@" >{asked}; exit 1')
    assert torch_source.pip_source("1.2", NEW, (str(pip),)) is None
    assert asked.read_text().split()[-1] == "torch==1.2+cpu"
    assert "--dry-run" in asked.read_text()


def test_without_torch_the_requirement_is_dropped(tmp_path: Path) -> None:
    torch_limits(tmp_path, None)
    assert (tmp_path / "torch-override.txt").read_text() == "torch; python_version < '3'\n"
    source = kept_source("torch @ file:///w")
    assert source is not None
    assert torch_limits(tmp_path, source)[-1] == "--no-sources"
    assert kept_source("") is None


def test_a_missing_or_invalid_state_is_ignored(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    (tmp_path / "labelloop.json").write_text('{"digest": ')
    assert read_state(tmp_path) is None
    (tmp_path / "labelloop.json").write_text('{"digest": "d", "python": "p"}')
    assert read_state(tmp_path) is None
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) is None, "its Python does not run"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert read_state(tmp_path) == STATE


@pytest.mark.parametrize(
    ("digest", "asked", "expected"),
    [
        ("d", Choice(), True),
        ("d", Choice(python=sys.executable), True),
        ("another", Choice(), False),
        ("d", Choice(torch="cuda"), False),
        ("d", Choice(python="/none"), False),
    ],
)
def test_an_environment_does_not_serve_another_lock_python_or_torch(digest: str, asked: Choice, expected: bool) -> None:
    assert serves(STATE, digest, asked) is expected


def test_the_error_of_a_failed_command_shows_its_output(tmp_path: Path) -> None:
    said: list[str] = []
    command = script(tmp_path / "uv", "echo Downloading numpy; echo chatter; echo 'no such wheel' >&2; exit 2")
    with pytest.raises(SetUpError, match=r"(?s)uv failed.*no such wheel"):
        run((str(command),), said.append)
    assert said == ["Downloading numpy"]
