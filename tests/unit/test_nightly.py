"""The nightly runner: its parts run, are recorded if they pass, and are listed."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nightly import passed
from tests.nightly.__main__ import commit_of, main, run
from tests.nightly.parts import PARTS, Part, chosen
from tests.nightly.passed import Passed

MAKEFILE = Path(__file__).parents[2] / "Makefile"
LAST = Passed(date=datetime.date(2026, 3, 1), commit="0123456789abcdef" + "0" * 24, seconds=1_234)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "passed.toml"


def test_recorded_passes_are_read_back_as_written(file: Path) -> None:
    assert passed.read(file) == {}
    noted = {"soak": LAST, "chaos": Passed(date=LAST.date, commit="abcdef0+", seconds=0)}
    passed.write(file, noted)
    assert passed.read(file) == noted
    assert list(passed.read(file)) == ["chaos", "soak"]


@pytest.mark.parametrize(
    "text", ['[soak]\ndate = 2026-03-01\ncommit = "not one"\nseconds = 3\n', "[soak", "soak = 1\n"]
)
def test_an_invalid_file_of_passes_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ValueError, match=r"soak|table"):
        passed.read(file)


def test_each_part_is_listed_with_its_last_pass() -> None:
    told = passed.table(["chaos", "soak"], {"soak": LAST}, datetime.date(2026, 3, 4))
    assert told.splitlines() == [
        "  chaos  has not passed yet",
        "  soak   passed 2026-03-01 (3 days ago) at 0123456789ab, in 1,234 s",
    ]


def test_parts_are_chosen_by_words() -> None:
    assert chosen("") == list(PARTS)
    assert [part.name for part in chosen("soak study")] == ["study", "soak"]
    with pytest.raises(ValueError, match="no part is named like 'nothing': chaos, "):
        chosen("nothing")


def test_each_part_is_a_target_of_the_makefile() -> None:
    makefile = MAKEFILE.read_text()
    assert len({part.name for part in PARTS}) == len(PARTS)
    for part in PARTS:
        assert part.command[0] == "make"
        assert f"\n{part.command[1]}: " in makefile


def test_a_part_is_recorded_if_it_passes_and_not_if_it_fails(file: Path) -> None:
    passed.write(file, {"other": LAST})
    python = (sys.executable, "-c", "import os, sys; sys.exit(os.environ['WANTED'] != 'yes')")
    assert not run(Part("part", python, {"WANTED": "no"}), file)
    assert passed.read(file) == {"other": LAST}
    assert run(Part("part", python, {"WANTED": "yes"}), file)
    assert passed.read(file).keys() == {"other", "part"}
    assert passed.read(file)["other"] == LAST


def test_a_failed_part_fails_the_run_after_all_others_have_run(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [Part("bad", (sys.executable, "-c", "raise SystemExit(1)")), Part("good", (sys.executable, "-c", ""))]
    monkeypatch.setattr("tests.nightly.__main__.chosen", lambda words: parts)
    monkeypatch.setattr("tests.nightly.__main__.PARTS", parts)
    monkeypatch.setattr(sys, "argv", ["nightly", "--file", str(file)])
    assert main() == 1
    assert passed.read(file).keys() == {"good"}
    said = capfd.readouterr().out.splitlines()
    assert "  bad   has not passed yet" in said
    assert said[-1] == "failed: bad"


def test_a_commit_is_marked_if_files_other_than_the_record_differ(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("code.py", passed.FILE.name):
        (tmp_path / name).write_text("")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    commit = commit_of(tmp_path)
    (tmp_path / passed.FILE.name).write_text("more")
    assert commit_of(tmp_path) == commit
    (tmp_path / "code.py").write_text("more")
    assert commit_of(tmp_path) == f"{commit}+"
