"""``labelloop demo --human``, with a program in place of the annotator."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from oracle_svc.config import OracleSettings
from oracle_svc.datasets.mnist import load_mnist
from tests.e2e.test_demo import left_over
from tests.patience import PATIENCE_S

OWN = {"X-Labelloop": "1", "Content-Type": "application/json"}
_RUN = "/api/runs/by-hand"


async def start_demo(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Start the demo, and return it with the address that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labelloop_cli", "demo", "--human", "--output", str(folder / "demo")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := re.search(r"http://\S+", said)):
            line = (await process.stdout.readline()).decode()
            assert line, said
            said += line
    return process, found.group()


async def label(client: httpx.AsyncClient, truth: np.ndarray, count: int) -> None:
    """Give ``count`` correct labels as the page does, each once it is requested."""
    async with asyncio.timeout(2 * PATIENCE_S):
        while count:
            response = await client.post(f"{_RUN}/next", json={"count": min(count, 4)})
            requests: list[dict[str, Any]] = response.raise_for_status().json()["requests"]
            for each in requests:
                result = {"request_id": each["request_id"], "label": int(truth[each["sample_id"]])}
                answer = await client.post(f"{_RUN}/answers", json={"results": [result]})
                assert (answer.json()["recorded"], answer.json()["repeated_count"]) == (1, 0)
            count -= len(requests)
            await asyncio.sleep(0 if requests else 0.1)  # a model is being fitted


@pytest.mark.timeout(1_800)
async def test_labels_given_by_hand_beat_random_ones_across_a_restart(tmp_path: Path, nats_binary: Path) -> None:
    settings = OracleSettings()
    truth = load_mnist(settings.data_dir, settings.cache_dir).labels
    assert truth is not None
    process, url = await start_demo(tmp_path)
    site = url.partition("/runs/")[0]
    async with httpx.AsyncClient(base_url=site, headers=OWN, timeout=PATIENCE_S) as client:
        assert (await client.get(f"{url}&name=ada")).status_code == 303
        await label(client, truth, 13)
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
        assert process.returncode == 130, output.decode()
        assert left_over(tmp_path) == []
        process, again = await start_demo(tmp_path)
        assert again == url, "a page that is still open goes on"
        await label(client, truth, 37)
        output, _ = await process.communicate()
    said = output.decode()
    assert process.returncode == 0, said
    rows = re.findall(r"^(\d+) +([\d.]+) % +([\d.]+) % *$", said, re.MULTILINE)
    assert [int(labels) for labels, _, _ in rows] == [10, 20, 30, 40, 50]
    _, yours, at_random = rows[-1]
    assert float(yours) > float(at_random), said
    assert re.search(rf"your 50 labels: accuracy \(evaluation set, n = [\d,]+\) {yours} %", said)
    assert re.search(r"it takes \d+ of them|do not get there", said)
    assert "by-hand" in (tmp_path / "human" / "report.html").read_text()
    kept = tmp_path / "human" / "store" / "page.json"
    assert kept.stat().st_mode & 0o077 == 0, "the token is nobody else's"
    assert left_over(tmp_path) == []
