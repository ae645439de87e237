"""The article's 400 rounds through the services, timed by recorded timestamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, GetRunResponse, StartRunRequest
from labelloop_cli.clients import Clients
from labelloop_cli.demo.plan import AT_THE_END, Experiment, article


@dataclass(frozen=True)
class Timed:
    """Wall seconds from start to end, and the overhead beyond the fit of each round but the first, in seconds."""

    seconds: float
    overheads_s: list[float]


async def warm_up(clients: Clients, suffix: str) -> None:
    """Get the pool published and into memory, as in the notebook."""
    await run_experiment(clients, article_run("first_10"), f"first_10-{suffix}", "")


async def four_hundred_rounds(clients: Clients, suffix: str) -> Timed:
    """Run active_400, and auto_confident, which continues it."""
    active_id = f"active_400-{suffix}"
    active = await run_experiment(clients, article_run("active_400"), active_id, "")
    auto = await run_experiment(clients, article_run("auto_confident"), f"auto_confident-{suffix}", active_id)
    return Timed(run_seconds(active) + run_seconds(auto), round_overheads_s(active) + round_overheads_s(auto))


def article_run(name: str) -> Experiment:
    """Return the article's experiment of that name."""
    return next(experiment for experiment in article() if experiment.name == name)


async def run_experiment(clients: Clients, experiment: Experiment, run_id: str, continues: str) -> GetRunResponse:
    """Run an experiment to its end."""
    experiment.spec.report_every = AT_THE_END  # the notebook measures on the 400 test images only
    await clients.trainer.StartRun(StartRunRequest(run_id=run_id, spec=experiment.spec, continues=continues))
    async for _ in clients.watch(run_id):
        pass
    return await clients.trainer.GetRun(GetRunRequest(run_id=run_id))


def run_seconds(whole: GetRunResponse) -> float:
    """Return the wall time from start to end, by the trainer's clock."""
    return (whole.run.changed_at.ToNanoseconds() - whole.run.started_at.ToNanoseconds()) / 1e9


def round_overheads_s(whole: GetRunResponse) -> list[float]:
    """Return the overhead beyond the fit of each round but the first, in seconds."""
    recorded = np.array([result.recorded_at.ToNanoseconds() for result in whole.rounds]) / 1e9
    fits = np.array([result.fit_s for result in whole.rounds])
    return [float(cost) for cost in np.diff(recorded) - fits[1:]]
