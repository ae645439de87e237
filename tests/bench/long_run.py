"""Whether memory and pace stay constant over a long run."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, StartRunRequest
from labelloop_cli.clients import Clients, connect
from labelloop_cli.local.stack import Stack, running

from tests.bench.services import article_run, round_overheads_s

_WARM_UP_ROUNDS = 100
_DRIFT_MAX = 0.05
_SLOWDOWN_MAX = 1.1


async def long_run() -> dict[str, Any]:
    """Measure over the article's 400 rounds: resident memory of each service, and a round's time beyond its fit."""
    with TemporaryDirectory() as folder:
        async with running(Path(folder)) as stack, connect(stack.endpoints) as clients:
            memory = await _watch_memory(stack, clients)
            whole = await clients.trainer.GetRun(GetRunRequest(run_id="long"))
    drift = {name: _drift(samples) for name, samples in memory.items()}
    overheads = round_overheads_s(whole)[_WARM_UP_ROUNDS:]
    third = len(overheads) // 3
    slowdown = median(overheads[-third:]) / median(overheads[:third])
    worst = max(drift.values())
    return {
        "value": 100 * worst,
        "unit": "% of resident memory gained after round 100",
        "target": f"under {100 * _DRIFT_MAX:.0f} %, the last third of rounds at most {_SLOWDOWN_MAX} times the first's",
        "met": worst < _DRIFT_MAX and slowdown <= _SLOWDOWN_MAX,
        "detail": {"drift": drift, "slowdown": slowdown, "rounds": len(whole.rounds)},
    }


async def _watch_memory(stack: Stack, clients: Clients) -> dict[str, list[int]]:
    """Return the resident KiB of each service at each change of the run after its warm-up."""
    memory: dict[str, list[int]] = {name: [] for name in stack.services}
    spec, auto = article_run("active_400").spec, article_run("auto_confident").spec
    spec.auto_label_batch_size, spec.auto_label_budget = auto.auto_label_batch_size, auto.auto_label_budget
    await clients.trainer.StartRun(StartRunRequest(run_id="long", spec=spec))
    async for status in clients.watch("long"):
        if status.round > _WARM_UP_ROUNDS:
            for name, samples in memory.items():
                samples.append(_resident_kib(stack, name))
    return memory


def _resident_kib(stack: Stack, name: str) -> int:
    process = stack.services[name].process
    assert process is not None, "services are up"
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _drift(samples: list[int]) -> float:
    """Return the gain from the first tenth to the last, as a share of the first."""
    tenth = max(1, len(samples) // 10)
    return fmean(samples[-tenth:]) / fmean(samples[:tenth]) - 1
