"""Absurd values of every option of every command are refused at once, in one line that names the option.

Options are read from the commands, so that new ones are covered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from labelloop_cli.__main__ import app, main
from labelloop_cli.output import console

SECONDS = 10.0
NOWHERE = "127.0.0.1:9"
HUGE = "9" * 30
ABSURD = {
    int: ["", "x", "nan", "1.5", HUGE, f"-{HUGE}"],
    float: ["", "x", "nan", "inf", "-inf", "1e400", f"-{HUGE}"],
    Enum: ["", "round"],
    datetime: ["", "yesterday", "9999-99-99"],
}
TEXTS = ["\x1b[31m", "x" * 100_000]
LATE = [("up",), ("demo",), ("run", "delete")]  # start something, or wait for the broker, before these matter
FILES = ["no/such/file.csv", "x" * 5_000, "/dev/null/x"]


def kind_of(parameter: Any) -> type:
    """Return the type of a parameter's values; Enum for any choice."""
    annotation = parameter.type_descriptor.annotation
    given = next((each for each in get_args(annotation) if each is not type(None)), annotation)
    kind: type = given if isinstance(given, type) else str
    return Enum if issubclass(kind, Enum) else kind


def options(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path of each command, the command, and each of its options that takes a value."""
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, (*path, name))
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.is_flag and parameter.name != "help":
            yield path, command, parameter


OPTIONS = list(options(typer.main.get_command(app)))


def name_of(case: tuple[tuple[str, ...], Any, Any]) -> str:
    return " ".join((*case[0], max(case[2].opts, key=len)))


def command_line(path: tuple[str, ...], command: Any, option: Any, value: str, file: Path) -> list[str]:
    """Return arguments in which all is right but the value of one option."""
    needed: list[str] = []
    for other in command.params:
        text = str(file) if kind_of(other) is Path else "r"
        if other.param_type_name == "argument" and (other.required or other.name == "dataset"):
            needed.append("mnist" if other.name == "dataset" else text)
        elif other is not option and other.param_type_name == "option" and other.required:
            needed += [max(other.opts, key=len), text]
    return [*path, *needed, max(option.opts, key=len), value]


class Terminal:
    """The command, run in this process: no service answers, and nothing may be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, *arguments: str) -> tuple[object, list[str]]:
        """Return the exit code and the lines of the message."""
        self._monkeypatch.setattr("sys.argv", ["labelloop", *arguments])
        began_s = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr().err
        assert time.monotonic() - began_s < SECONDS
        assert "Traceback" not in said
        assert "Value error" not in said
        return ended.value.code, [line for line in said.splitlines() if line.strip()]


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Terminal:
    monkeypatch.chdir(tmp_path)
    for name in ("TRAINER", "SCORER", "ORACLE"):
        monkeypatch.setenv(f"LABELLOOP_{name}", NOWHERE)
    monkeypatch.setenv("LABELLOOP_NATS_URL", f"nats://{NOWHERE}")
    monkeypatch.setenv("LABELLOOP_RETRY_S", "0")
    monkeypatch.setattr(console.errors, "_width", 1_000)
    (tmp_path / "rows.csv").write_text("id,class\n1,0\n")
    return Terminal(monkeypatch, capsys)


@pytest.mark.parametrize("case", [case for case in OPTIONS if kind_of(case[2]) in ABSURD], ids=name_of)
def test_a_value_of_another_type_or_size_is_refused_in_one_line_that_names_the_option(
    case: tuple[tuple[str, ...], Any, Any], terminal: Terminal, tmp_path: Path
) -> None:
    path, command, option = case
    for value in ABSURD[kind_of(option)]:
        code, lines = terminal.run(*command_line(path, command, option, value, tmp_path / "rows.csv"))
        assert (code, len(lines)) == (2, 1), (value, lines)
        assert lines[0].startswith("error: ")
        assert max(option.opts, key=len) in lines[0]


@pytest.mark.parametrize(
    "case", [case for case in OPTIONS if kind_of(case[2]) in (str, Path) and case[0] not in LATE], ids=name_of
)
def test_an_absurd_text_or_path_never_shows_a_traceback(
    case: tuple[tuple[str, ...], Any, Any], terminal: Terminal, tmp_path: Path
) -> None:
    path, command, option = case
    for value in FILES if kind_of(option) is Path else TEXTS:
        code, lines = terminal.run(*command_line(path, command, option, value, tmp_path / "rows.csv"))
        assert code in (1, 2)
        assert len(lines) == 1, lines


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--annotate", "--token", "s3cret"], "--token: it must have 8 characters or more"),
        (["--token", "long-enough"], "--token: has no effect without --annotate"),
        (["--page-port", "9000"], "--page-port: has no effect without --annotate"),
        (["--remote-pools", "ftp://host/"], "--remote-pools: "),
        (["--trainer-port", "4222"], "--trainer-port: --nats-port is 4222 too"),
        (["--store", "/dev/null/x"], "--store: no folder can be made there"),
        (["--store", "x" * 5_000], "--store: no folder can be made there"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_up_refuses_its_options_before_it_starts_anything(
    arguments: list[str], named: str, terminal: Terminal, tmp_path: Path
) -> None:
    code, lines = terminal.run("up", *arguments)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: {named}")
    assert not (tmp_path / "labelloop-data" / "nats").exists()


def test_an_option_is_named_by_its_variable_where_it_comes_from_one(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_HTTP_TOKEN", "s3cret")
    monkeypatch.setenv("LABELLOOP_UPLOAD_GB", "-1")
    assert terminal.run("up", "--annotate")[1][0].startswith("error: LABELLOOP_HTTP_TOKEN: ")
    assert terminal.run("broker", "update")[1][0].startswith("error: LABELLOOP_UPLOAD_GB: ")
    assert terminal.run("broker", "update", "--upload-gb", "-2")[1][0].startswith("error: --upload-gb: ")


def test_a_wrong_setting_of_the_command_itself_is_named(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_RETRY_S", "-1")
    code, [line] = terminal.run("run", "list")
    assert code == 2
    assert line.startswith("error: LABELLOOP_RETRY_S: Input should be greater than or equal to 0")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--stop-on", "10"], "--stop-on has no effect without --protocol published"),
        (["--auto-batch-size", "5"], "--auto-batch-size has no effect without --auto-label"),
        (["--deadline", "60"], "settings for people have no effect here (--deadline)"),
        (["--audit", "60"], "settings of a guarantee have no effect without one (--audit)"),
    ],
)
def test_an_option_without_effect_is_refused(arguments: list[str], named: str, terminal: Terminal) -> None:
    code, [line] = terminal.run("run", "start", "mnist", *arguments)
    assert code == 2
    assert named in line
