"""The whole demo: interrupted, resumed, and its output."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

PUBLISHED = {"ground_truth": 0.9225, "random_400": 0.8375, "first_10": 0.38}
ROWS = [
    *("ground_truth", "clustering", "random_400", "first_10", "active_400", "auto_all", "auto_confident"),
    *("margin_400", "random_400_honest", "active_400_honest", "better_400", "better_random_400", "better_auto"),
]
SECTIONS = [
    "Results",
    "One draw from a wide distribution",
    "Active against random",
    "spent better",
    "How sure the model is",
]


async def start_demo(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labelloop_cli", "demo", "--quick", "--output", str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "160"},
    )


async def interrupt_after(process: asyncio.subprocess.Process, words: str) -> int:
    assert process.stdout is not None
    async for line in process.stdout:
        if words in line.decode():
            break
    process.send_signal(signal.SIGINT)
    await process.stdout.read()
    return await process.wait()


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that still work on ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.timeout(1_800)
async def test_the_demo_resumes_after_ctrl_c_and_writes_all_results(tmp_path: Path, nats_binary: Path) -> None:
    assert await interrupt_after(await start_demo(tmp_path), "active_400:") == 130
    assert left_over(tmp_path) == []
    process = await start_demo(tmp_path)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert "going on from last time" in output.decode()
    assert left_over(tmp_path) == []
    results = json.loads((tmp_path / "results.json").read_text())
    check_rows(results)
    page = (tmp_path / "report.html").read_text()
    for section in SECTIONS:
        assert section in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), "the page must be self-contained"


def check_rows(results: dict) -> None:  # type: ignore[type-arg]
    rows = {row["experiment"]: row for row in results["rows"]}
    assert list(rows) == ROWS
    assert rows["active_400"]["rounds"] + rows["auto_confident"]["rounds"] == 400
    assert rows["auto_confident"]["auto_labels"] == rows["auto_all"]["auto_labels"] == 3600
    assert 0 < rows["auto_confident"]["wrong_auto_labels"] < 1800
    assert rows["active_400"]["perturbed"]["runs"] == 4
    assert len(rows["margin_400"]["spread"]["values"]) == 2
    better, drawn = (rows[name]["test_accuracy_10k"] for name in ("better_400", "better_random_400"))
    assert better > drawn > rows["margin_400"]["test_accuracy_10k"]
    audited = rows["better_auto"]
    assert audited["labels"] == 1_000
    assert audited["auto_labels"] + audited["labels"] + audited["audit"]["left"] == 4_000
    assert audited["wrong_auto_labels"] <= 0.03 * audited["auto_labels"]
    for name, row in rows.items():
        if name != "clustering":
            low, high = row["interval_10k"]
            assert 0 <= low < row["test_accuracy_10k"] < high <= 1
    if results["dataset"]["stand_in"]:
        assert all(row["published_accuracy"] is None for row in rows.values())
    else:
        assert {name: rows[name]["test_accuracy"] for name in PUBLISHED} == PUBLISHED
