"""The plugin ``tests.required`` fails runs in which a required test did not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.required import FILE, read_sections

ROOT = Path(__file__).parents[2]
LISTED = """
[all.must_pass]
first = ["test_first.py"]
second = ["test_second.py::test_tool"]

[[all.may_skip]]
tests = "test_first.py"
reason = "takes minutes"
because = "another section has it"
"""
PASSES = "def test_it() -> None:\n    assert True\n"
TOOL = "import pytest\n\ndef test_tool() -> None:\n    {}\n"
SKIPS_WHOLLY = "import pytest\n\npytest.skip('no such library', allow_module_level=True)\n"
TAKES_MINUTES = "\nimport pytest\n\n@pytest.mark.skip(reason='takes minutes')\ndef test_long() -> None: ...\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder whose tests all run, except one that may skip; without other installed plugins."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makefile(".toml", listed=LISTED)
    pytester.makepyfile(test_first=PASSES + TAKES_MINUTES, test_second=TOOL.format("pass"))
    return pytester


def outcome(run: pytest.Pytester, *options: str, section: str = "all") -> pytest.RunResult:
    told = ("--require", section, "--required-file", "listed.toml")
    return run.runpytest("-p", "tests.required", "-p", "no:cacheprovider", *told, *options)


def test_a_run_of_all_required_tests_passes(run: pytest.Pytester) -> None:
    assert outcome(run).ret == pytest.ExitCode.OK


def test_a_skip_that_is_not_listed_fails_the_run_with_its_reason(run: pytest.Pytester) -> None:
    run.makepyfile(test_second=TOOL.format("pytest.skip('no such tool')"))
    found = outcome(run)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    found.stdout.fnmatch_lines(["second: no test of test_second.py::test_tool passed"])
    found.stdout.fnmatch_lines(["test_second.py: 1 skipped: no such tool"])


def test_a_file_that_is_skipped_as_a_whole_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile(test_third=SKIPS_WHOLLY)
    found = outcome(run)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    found.stdout.fnmatch_lines(["test_third.py: 1 skipped: no such library"])


def test_skips_in_xdist_workers_fail_the_run(run: pytest.Pytester) -> None:
    run.makepyfile(test_second=TOOL.format("pytest.skip('no such tool')"), test_third=SKIPS_WHOLLY)
    told = ("--require", "all", "--required-file", "listed.toml")
    found = run.runpytest_subprocess("-p", "tests.required", "-p", "xdist", "-n", "1", *told)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    found.stdout.fnmatch_lines(["test_second.py: 1 skipped: no such tool"])
    found.stdout.fnmatch_lines(["test_third.py: 1 skipped: no such library"])


def test_a_suite_without_any_selected_test_fails_the_run(run: pytest.Pytester) -> None:
    found = outcome(run, "-k", "test_it")
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    found.stdout.fnmatch_lines(["second: no test of test_second.py::test_tool passed"])


def test_a_skip_for_another_reason_than_the_listed_one_fails_the_run(run: pytest.Pytester) -> None:
    run.makepyfile(test_first=PASSES + TAKES_MINUTES.replace("takes minutes", "no such tool"))
    assert outcome(run).ret == pytest.ExitCode.TESTS_FAILED


def test_an_unknown_section_is_refused(run: pytest.Pytester) -> None:
    found = outcome(run, section="al")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*--require al: choose one of all"])


def test_all_tests_that_the_list_names_exist() -> None:
    sections = read_sections(FILE)
    assert sections.keys() == {"change", "queues", "images"}
    for section in sections.values():
        places = [place for places in section.must_pass.values() for place in places]
        for place in [*places, *(skip.tests for skip in section.may_skip)]:
            path, _, test = place.partition("::")
            assert (ROOT / path).exists(), place
            name = test.partition("[")[0]
            assert not name or f"def {name}(" in (ROOT / path).read_text(), place
