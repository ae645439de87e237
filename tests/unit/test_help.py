"""Help of the command: it imports little, and is complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import labelloop
import pytest
import typer
from labelloop_cli.__main__ import app
from typer.testing import CliRunner

HEAVY = {"asyncio", "cryptography", "google", "grpc", "httpx", "jinja2", "matplotlib", "nats", "numpy", "packaging"} | {
    *("PIL", "pyarrow", "pyroaring", "rich", "structlog")
}
IMPORTED = """
import json, sys
from labelloop_cli.__main__ import main
sys.argv = ["labelloop", *{arguments}]
try:
    main()
finally:
    print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})), file=sys.stderr)
"""


def commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all commands and groups, beginning with the root's."""
    yield path
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__.rstrip("_"))
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        yield from commands(sub.typer_instance, (*path, str(sub.name)))


COMMANDS = list(commands(app))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["run", "start", "--help"]], ids=str
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-c", IMPORTED.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout
    assert sorted(HEAVY & {*json.loads(done.stderr)}) == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_lists_all_subcommands_and_truncates_no_line(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], terminal_width=80)
    assert result.exit_code == 0
    _, described = result.stdout.split("\n\n", 1)
    assert not re.findall(r"^.*\w,?\.\.\.$", described, re.MULTILINE), "these lines are cut off"
    for below in COMMANDS:
        if below and below[:-1] == path:
            assert f"\n  {below[-1]} " in described


def test_options_of_run_start_are_grouped_in_panels() -> None:
    text = CliRunner().invoke(app, ["run", "start", "--help"], terminal_width=80).stdout
    panels = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert panels == ["Data", "Strategy", "Labels from people", "Stopping", "Guarantee", "Other"]
    for option, panel in {"--graph": 0, "--control": 1, "--gold": 2, "--budget": 3, "--audit": 4, "--file": 5}.items():
        before = text[: text.index(f" {option} ")]
        assert [title for title in panels if f"\n{title}:\n" in before] == panels[: panel + 1]


def test_the_version_is_that_of_the_installed_distribution() -> None:
    version = metadata.version("labelloop")
    assert labelloop.__version__ == version
    assert CliRunner().invoke(app, ["--version"]).stdout == f"labelloop {version}\n"


def test_without_an_installed_distribution_the_version_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(RuntimeError, match="not installed"):
        _ = labelloop.__version__
