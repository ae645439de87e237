"""A pytest plugin: ``--require SECTION`` fails a run in which suites that tests/required.toml lists did not run.

A test that skips because a tool is missing looks like one that passed; in a run that is to prove something, it must
not.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FILE = Path(__file__).with_suffix(".toml")


class Skip(NamedTuple):
    """A test, or a file of tests, that was skipped for ``reason``."""

    test: str
    reason: str


class AllowedSkip(BaseModel):
    """Allows skips of tests whose ids begin with ``tests`` if their reason contains ``reason``."""

    model_config = ConfigDict(extra="forbid")

    tests: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    because: str = Field(min_length=1)

    def covers(self, skip: Skip) -> bool:
        return skip.test.startswith(self.tests) and self.reason in skip.reason


class Section(BaseModel):
    """What a run must prove: for each suite, prefixes of test ids, for each of which a test must pass."""

    model_config = ConfigDict(extra="forbid")

    must_pass: dict[str, list[str]]
    may_skip: list[AllowedSkip] = []

    def missing(self, passed: Collection[str], skipped: Collection[Skip]) -> list[str]:
        """Return what the run lacks, one line each; empty if it lacks nothing."""
        lacking = [
            f"{suite}: no test of {place} passed"
            for suite, places in self.must_pass.items()
            for place in places
            if not any(test.startswith(place) for test in passed)
        ]
        forbidden = Counter(
            (skip.test.partition("::")[0], skip.reason)
            for skip in skipped
            if not any(allowed.covers(skip) for allowed in self.may_skip)
        )
        return lacking + [f"{file}: {count} skipped: {reason}" for (file, reason), count in forbidden.items()]


def read_sections(file: Path) -> dict[str, Section]:
    """Read the sections of a file such as tests/required.toml. Raise ValueError if it is invalid."""
    return TypeAdapter(dict[str, Section]).validate_python(tomllib.loads(file.read_text()))


class Watch:
    """Records which tests pass and skip, and fails the run at its end if it lacks any."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self._passed: set[str] = set()
        self._skipped: set[Skip] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        self._note_skip(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note_skip(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self._missing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if missing := self._missing():
            terminalreporter.section(f"required by {FILE.name}, and did not run", red=True, bold=True)
            for line in missing:
                terminalreporter.write_line(line)

    def _missing(self) -> list[str]:
        return self._section.missing(self._passed, self._skipped)

    def _note_skip(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            assert isinstance(report.longrepr, tuple), "pytest gives a path, a line and a reason"
            self._skipped.add(Skip(report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", metavar="SECTION", help="fail where what this section lists skips or did not run")
    parser.addoption("--required-file", type=Path, default=FILE, help="what has the sections (default: %(default)s)")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--require")
    if name is None or hasattr(config, "workerinput"):  # workers of pytest-xdist report to the controller, which has it
        return
    sections = read_sections(config.getoption("--required-file"))
    if name not in sections:
        raise pytest.UsageError(f"--require {name}: choose one of {', '.join(sections)}")
    config.pluginmanager.register(Watch(sections[name]), "required")
