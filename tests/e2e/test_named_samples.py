"""A folder of pictures, from looking at it to labels by name, with the commands of a newcomer."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import numpy as np
import pytest
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from labelloop_cli.__main__ import app
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from PIL import Image
from typer.testing import CliRunner

from tests.e2e.driving import finish, point_at

CLASSES = "1,2"
PICTURES = 24


def write_pictures(folder: Path) -> None:
    """Write dark pictures, of the class 1, and bright ones."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = rng.integers(0, 60, (12, 12), np.uint8) + np.uint8(180 * is_bright(f"{number:02}.png"))
        Image.fromarray(pixels).save(folder / f"{number:02}.png")


def is_bright(name: str) -> bool:
    return int(name[:2]) % 3 == 0


async def waiting(clients: Clients, *, labels: int) -> RunStatus:
    """Wait until the run has so many labels and asks for more."""
    async for status in clients.watch("pets"):
        if status.labels_open and status.labels_paid == labels:
            return status
    raise AssertionError("the run ended")


async def run(*arguments: str | Path) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


async def test_pictures_of_a_folder_are_inspected_labelled_and_exported_by_name(
    clients: Clients, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(stack.endpoints, monkeypatch)
    folder, table, shown, labels = (tmp_path / name for name in ("pets", "to_label.csv", "shown", "labels.csv"))
    write_pictures(folder)
    gold = tmp_path / "gold.csv"
    gold.write_text("name;class\r\n23.png;1\r\n")
    assert "24, " in await run("pool", "inspect", folder)
    options: list[str | Path] = [
        "--labels-from",
        "queue",
        "--gold",
        gold,
        "--budget",
        "12",
        "--batch-size",
        "6",
        "--first-batch",
        "6",
        "--features",
        "pixels",
        "--control",
        "0",
    ]
    await run("run", "start", folder, "--classes", CLASSES, "--run-id", "pets", *options, "--no-watch")
    status = await waiting(clients, labels=0)
    assert [each.label for each in status.spec.queue.gold] == [0]
    first = await label_batch(table, folder, shown)
    await waiting(clients, labels=6)
    await run("label", "revise", "pets", first[0], "1" if is_bright(first[0]) else "2")
    second = await label_batch(table, folder, shown)
    await finish(clients, "pets")
    await run("export", "labels", "pets", "-o", labels)
    with labels.open(encoding="utf-8", newline="") as file:
        said = {row["name"]: row["class_name"] for row in csv.DictReader(file)}
    wanted = {name: "2" if is_bright(name) != (name == first[0]) else "1" for name in first + second}
    assert said == wanted
    await run("report", "pets", "-o", tmp_path / "report.html", "--truth", labels)
    assert first[0] in (tmp_path / "report.html").read_text(encoding="utf-8")


async def label_batch(table: Path, folder: Path, shown: Path) -> list[str]:
    """Label what waits as with a spreadsheet, and return the names of the samples."""
    await run("label", "open", "pets", "-o", table, "--images", shown)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        seen, meant = (np.asarray(Image.open(path)) for path in (shown / row["file"], folder / row["name"]))
        assert np.array_equal(seen, meant)
        row["class"] = "2.0" if is_bright(row["name"]) else "1.0"
    with table.open("w", encoding="utf-16", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    await run("label", "submit", "pets", table)
    table.unlink()  # what is filled in is not written over
    return [row["name"] for row in rows]
