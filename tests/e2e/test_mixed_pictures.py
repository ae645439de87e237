"""A folder of pictures of several sizes and formats: people see the files, models see samples of one size."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from labelloop.trainer.v1.trainer_pb2 import ListRunsRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from PIL import Image

from tests.e2e.driving import point_at
from tests.e2e.test_named_samples import run, waiting

FORMATS = (
    (".jpg", "JPEG", "RGB"),
    (".png", "PNG", "RGBA"),
    ("", "GIF", "P"),
    (".tif", "TIFF", "L"),
    (".jpg", "PNG", "L"),
)


def write_pictures(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        suffix, format, mode = FORMATS[number % len(FORMATS)]
        width, height = rng.integers(20, 90, 2)
        pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"IMG {number:02}{suffix}", format)
    (folder / "Thumbs.db").write_bytes(b"of a desktop")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(b"")


async def test_people_see_the_files_of_pictures_that_were_fitted(
    clients: Clients, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(stack.endpoints, monkeypatch)
    folder, table, shown = tmp_path / "pets", tmp_path / "to_label.csv", tmp_path / "shown"
    write_pictures(folder)
    pictures = ["--skip-bad", "--size", "24x16"]
    seen = " ".join((await run("pool", "inspect", folder, *pictures)).split())
    assert "20 unlabelled samples of 16x24x3 uint8" in seen
    assert "pictures are fitted to 24x16 pixels" in seen
    assert "left out (skip_bad): broken.png (an empty file)" in seen
    assert "1 file is no picture and is left out: notes.txt" in seen
    options = ["--labels-from", "queue", "--budget", "20", "--first-batch", "20", "--features", "pixels"]
    options += ["--control", "0", "--classes", "cat,dog", "--run-id", "pets", "--no-watch"]
    (tmp_path / "guide.md").write_text("# Pets\nThe one [in front].\n")
    await run("run", "start", folder, *pictures, *options, "--guidelines", tmp_path / "guide.md")
    await waiting(clients, labels=0)
    assert "`labelloop label guidelines pets`" in await run("label", "open", "pets", "-o", table, "--images", shown)
    assert await run("label", "guidelines", "pets") == "# Pets\nThe one [in front].\n"
    assert not (await clients.trainer.ListRuns(ListRunsRequest())).runs[-1].spec.queue.guidelines
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        original, displayed = folder / row["name"], shown / row["file"]
        if original.suffix == ".tif":  # browsers do not show it
            assert displayed.suffix == ".png"
            np.testing.assert_array_equal(Image.open(displayed), Image.open(original))
        else:
            assert displayed.read_bytes() == original.read_bytes()
