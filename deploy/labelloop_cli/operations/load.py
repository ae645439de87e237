"""Put running scorers under load, for ``labelloop load``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import typer
from labelloop.errors import WrongState
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, ListRunsRequest, RunStatus

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.load.agreement import wrong_scores
from labelloop_cli.load.alone import made_up_images, unloaded_answer
from labelloop_cli.load.calls import Outcomes, score_calls
from labelloop_cli.load.closed_loop import closed_loop
from labelloop_cli.load.figures import figures
from labelloop_cli.load.open_loop import constant_rate
from labelloop_cli.load.sending import sending
from labelloop_cli.output.console import console

_KNOWN_IMAGES = 64


@dataclass(frozen=True)
class Plan:
    """What to send.

    Attributes:
        run_id: The run whose newest model scores; empty for the newest run that has one.
        seconds: How long each of the two loops lasts.
        users: Users of the closed loop.
        images: Images in a call.
        share: Rate of the open loop, as a share of what the closed loop reached.
    """

    run_id: str
    seconds: float
    users: int
    images: int
    share: float


async def put_under_load(plan: Plan, *, as_json: bool) -> None:
    """Print the figures of a closed and an open loop; WrongState if an answer was wrong or none was right."""
    endpoints = Endpoints()
    async with connect(endpoints) as clients:
        run = await _run(clients, plan.run_id)
        results = [result async for result in _loops(clients, endpoints, run.latest.model_sha256, plan)]
    if as_json:
        document = {"scorer": endpoints.scorer, "run": run.run_id, "model_sha256": run.latest.model_sha256}
        typer.echo(json.dumps(document | {"loops": results}, indent=2))
    else:
        for result in results:
            console.print(line(result), highlight=False, soft_wrap=True)
    if wrong := sum(sum(result["wrong"].values()) for result in results):
        raise WrongState("WRONG_ANSWERS", f"{wrong} answers were wrong: see `wrong` in the figures", wrong=wrong)
    if not all(result["rate_s"] for result in results):
        raise WrongState("NOTHING_SCORED", "a loop got no answer: see `statuses` in the figures")


def line(result: dict[str, Any]) -> str:
    """Describe a loop in one line."""
    statuses = ", ".join(f"{status} {count:,}" for status, count in result["statuses"].items())
    said = f"{result['loop']} loop: {result['rate_s']:,.0f} answers a second, {result['images_s']:,.0f} images a second"
    if result["p50_ms"] is not None:
        said += f", p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms"
    return f"{said}; {statuses}" + (f"; WRONG: {result['wrong']}" if result["wrong"] else "")


async def _run(clients: Clients, run_id: str) -> RunStatus:
    if run_id:
        candidates = [(await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run]
    else:
        candidates = list((await clients.trainer.ListRuns(ListRunsRequest())).runs)
    found = [run for run in candidates if run.latest.model_sha256]
    if not found:
        message = f"run {run_id} has no model yet" if run_id else "no run has a model yet"
        raise WrongState("NO_MODEL_YET", f"{message}: start one, or wait", run_id=run_id)
    return found[-1]


async def _loops(clients: Clients, endpoints: Endpoints, model: str, plan: Plan) -> AsyncIterator[dict[str, Any]]:
    """Yield the figures of the closed loop, then of the open one."""
    images = await made_up_images(clients, _KNOWN_IMAGES, model=model)
    _, right = await unloaded_answer(clients, images, model=model)
    calls = score_calls(images, plan.images, model=model)

    def told(loop: str, outcomes: Outcomes, **asked: float) -> dict[str, Any]:
        wrong = wrong_scores(calls, outcomes.answers, right)
        return {"loop": loop, **asked, **figures(outcomes, plan.images, wrong)}

    async with sending(endpoints.scorer, calls, endpoints.tls_dir) as send:
        closed = told("closed", await closed_loop(send, len(calls.bodies), plan.users, plan.seconds), users=plan.users)
        yield closed
        rate_s = max(1.0, plan.share * closed["rate_s"])
        outcomes = await constant_rate(send, len(calls.bodies), rate_s, plan.seconds)
        yield told("open", outcomes, asked_rate_s=rate_s)
