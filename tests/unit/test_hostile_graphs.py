"""Hostile but valid graphs: refused with what to do, or run within the bounds of time and memory."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import example, given
from labelloop.errors import LabelloopError
from labelloop.scorer.v1 import scorer_pb2 as pb

from scorer_svc.models.graph import Graph
from scorer_svc.models.model import Model
from scorer_svc.scoring.score import Scoring
from tests.examples import drawn
from tests.hostile_graphs import HostileGraph, costly_graph, hostile_graphs

EXPECTED = {"scored", "BAD_MODEL", "MODEL_TOO_COSTLY", "NO_ANSWER", "SCORING_TOO_LONG", "TOO_MANY_IMAGES"}
MULTIPLY_ADDS = 100_000_000
SECONDS_MAX = 20.0  # a hundred times what the bound takes on an idle core: the machine may be busy


def scored(data: bytes, rows: int, executor: ThreadPoolExecutor) -> str:
    """Score ``rows`` samples by a model, and return why that was refused, or "scored"."""

    async def score(model: Model) -> pb.ScoreResponse:
        values = np.ones(rows * model.feature_count, model.dtype)
        return await Scoring(executor).score(pb.ScoreRequest(dtype=model.dtype, images=values.tobytes()), model, "m")

    try:
        response = asyncio.run(score(Model(data, "m", multiply_adds_max=MULTIPLY_ADDS)))
    except LabelloopError as error:
        return error.reason if error.field else "a refusal that names no field"
    assert len(response.predicted) == rows
    return "scored"


def test_a_hostile_graph_is_refused_or_ends_within_the_bound() -> None:
    outcomes = set[str]()

    @drawn(200)
    @given(hostile_graphs())
    @example(costly_graph())
    def check(hostile: HostileGraph) -> None:
        with ThreadPoolExecutor(1) as executor:
            began = time.monotonic()
            outcome = scored(hostile.data, 2, executor)
            assert time.monotonic() - began < SECONDS_MAX
        outcomes.add(outcome)
        assert outcome in EXPECTED

    check()
    assert outcomes >= {"scored", "BAD_MODEL", "MODEL_TOO_COSTLY"}, "graphs of each of these outcomes were tried"


@drawn(100)
@given(hostile_graphs())
def test_a_graph_that_is_accepted_can_be_run_for_any_number_of_samples(hostile: HostileGraph) -> None:
    """Shapes are as they were inferred, and answers of samples do not depend on others."""
    try:
        graph = Graph(hostile.data, "g", field="f", multiply_adds_max=MULTIPLY_ADDS)
    except LabelloopError:
        return
    samples = np.ones((3, graph.feature_count), graph.dtype)
    for count in (1, 3):
        assert graph.answers(samples[:count]).shape == (count, graph.answer_count)
