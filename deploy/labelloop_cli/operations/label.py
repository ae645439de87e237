"""Submit and change annotation results, for ``labelloop label``."""

from __future__ import annotations

import getpass
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelloop.csv_files.class_rows import COLUMNS, read_class_rows
from labelloop.csv_files.rows import read_sheet
from labelloop.domain.class_names import class_of, printable, shortened
from labelloop.domain.ids import RequestId
from labelloop.errors import InvalidInput, WrongState
from labelloop.events.v1.events_pb2 import PoolPublished, SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    CancelRequestsRequest,
    LabelResult,
    ResendRequestsRequest,
    SkippedSample,
    SkipSamplesRequest,
    SkipSamplesResponse,
    SubmitLabelsRequest,
    SubmitLabelsResponse,
    SubmitResultsRequest,
    SubmittedLabel,
)
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.contradictions import contradicted, late_words, listed_answers, outcome_words
from labelloop_cli.labelled_samples import labelled_samples
from labelloop_cli.output.console import console, tell
from labelloop_cli.output.documents import print_json
from labelloop_cli.sample_names import SampleNames
from labelloop_cli.shared_labels import equal_samples, without_shared


async def submit(run_id: str, answers: Path, annotator: str) -> None:
    """Submit the labels in a CSV, all or none.

    Rows of samples that only repeat the class of an equal one are left out: equal samples are asked for once.
    """
    filled, notes = read_class_rows(answers)
    rows, total = list(filled), sum(1 for _ in read_sheet(answers, COLUMNS).rows)
    tell(
        [
            *notes,
            *([f"{total - len(rows)} of {total} rows have no class and are left out"] if total > len(rows) else []),
        ]
    )
    async with connect(Endpoints()) as clients:
        pool, samples = await _pool(clients, run_id), SampleNames(clients.oracle, run_id)
        found = await labelled_samples(rows, list(pool.classes), samples)
        found = without_shared(found, await samples.first_equal(pool))
        labels = [SubmittedLabel(sample_id=sample_id, label=label) for sample_id, label in found.items()]
        request = SubmitLabelsRequest(run_id=run_id, annotator=_named(annotator), labels=labels)
        response = await clients.oracle.SubmitLabels(request)
    console.print(f"{response.recorded} labels recorded, {_not_recorded(response, 'stood already', run_id)}")


async def skip(run_id: str, samples: Sequence[str], annotator: str, comment: str, *, rejected: bool) -> None:
    """Skip samples, given by name or id: they get no label."""
    kind = SkipKind.SKIP_KIND_REJECTED if rejected else SkipKind.SKIP_KIND_SKIPPED
    async with connect(Endpoints()) as clients:
        sample_ids = await SampleNames(clients.oracle, run_id).meant(samples)
        skipped = [SkippedSample(sample_id=sample_id, kind=kind, comment=comment) for sample_id in sample_ids]
        request = SkipSamplesRequest(run_id=run_id, annotator=_named(annotator), samples=skipped)
        response = await clients.oracle.SkipSamples(request)
    console.print(f"{response.recorded} samples skipped, {_not_recorded(response, 'answered already', run_id)}")


def _not_recorded(response: SubmitLabelsResponse | SkipSamplesResponse, word: str, run_id: str) -> str:
    """Count the answers that were not recorded, and those among them that contradict what stands."""
    others, count = response.repeated_count - response.contradicting_count, response.contradicting_count
    if not count:
        return f"{others} {word}"
    return f"{others} {word}, {count} contradict what stands: see `labelloop label contradicted {run_id}`"


async def revise(run_id: str, sample: str, class_: str, annotator: str) -> None:
    """Replace the class of a sample, both given by name or number.

    Raises InvalidInput if no result for it was ever recorded.
    """
    async with connect(Endpoints()) as clients:
        [sample_id] = await SampleNames(clients.oracle, run_id).meant([sample])
        label = class_of(class_, await _classes(clients, run_id))
        recorded = await _say_anew(clients, run_id, _named(annotator), {sample_id: {"label": label}})
    console.print(f"{recorded} labels revised")


async def withdraw(run_id: str, samples: Sequence[str], annotator: str) -> None:
    """Withdraw labels. Raises InvalidInput for a sample without any recorded result."""
    async with connect(Endpoints()) as clients:
        sample_ids = await SampleNames(clients.oracle, run_id).meant(samples)
        said = {sample_id: {"withdrawn": True, "overrules": True} for sample_id in sample_ids}
        recorded = await _say_anew(clients, run_id, _named(annotator), said)
    console.print(f"{recorded} labels withdrawn")


async def cancel(run_id: str, samples: Sequence[str], annotator: str, comment: str) -> None:
    """Cancel requests for samples."""
    async with connect(Endpoints()) as clients:
        sample_ids = await SampleNames(clients.oracle, run_id).meant(samples)
        request = CancelRequestsRequest(
            run_id=run_id, sample_ids=sample_ids, comment=comment, annotator=_named(annotator)
        )
        response = await clients.oracle.CancelRequests(request)
    console.print(f"{response.cancelled} requests cancelled, {response.repeated_count} answered already")


async def resend(run_id: str, samples: Sequence[str]) -> None:
    """Have the run's tool asked again for samples, or for all that it has not answered if there are none."""
    async with connect(Endpoints()) as clients:
        sample_ids = await SampleNames(clients.oracle, run_id).meant(samples)
        request = ResendRequestsRequest(run_id=run_id, sample_ids=sample_ids)
        response = await clients.oracle.ResendRequests(request)
    console.print(f"{response.resent} requests are asked again")


async def show_contradicted(run_id: str, *, as_json: bool = False) -> None:
    """Print the samples of a run that later answers contradict, with what stands and what each answer says."""
    async with connect(Endpoints()) as clients:
        found = await contradicted(clients, run_id)
        classes = await _classes(clients, run_id) if found else ()
        names = await SampleNames(clients.oracle, run_id).own([*found])
    if as_json:
        said_of = {
            sample_id: {
                "name": names.get(sample_id, ""),
                "standing": outcome_words(answers.standing, classes),
                "contradicting": [late_words(each, classes) for each in answers.contradicting],
            }
            for sample_id, answers in found.items()
        }
        print_json({"run_id": run_id, "samples": said_of})
        return
    for sample_id, answers in found.items():
        name = f" ({shortened(names[sample_id])})" if names else ""
        said = [
            outcome_words(answers.standing, classes),
            *(late_words(each, classes) for each in answers.contradicting),
        ]
        console.print(printable(f"sample {sample_id}{name}: {'; '.join(said)}"), highlight=False, soft_wrap=True)
    count = f"{len(found)} sample" + "s" * (len(found) != 1)
    console.print(f"{count} of run {run_id} contradicted; `labelloop label revise` changes a label")


async def _classes(clients: Clients, run_id: str) -> Sequence[str]:
    """Return the names of a run's classes. Raises WrongState if its pool is not read yet."""
    return list((await _pool(clients, run_id)).classes)


async def _pool(clients: Clients, run_id: str) -> PoolPublished:
    """Return a run's pool. Raises WrongState if it is not read yet."""
    pool = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run.pool
    if not pool.classes:
        raise WrongState("NO_POOL", f"run {run_id!r} has not read its pool yet: nothing is asked for", run_id=run_id)
    return pool


def _named(annotator: str) -> str:
    """Return ``annotator``, or the name of the user who is logged in if it is empty."""
    return annotator or getpass.getuser()


async def _say_anew(clients: Clients, run_id: str, annotator: str, said: Mapping[int, Mapping[str, Any]]) -> int:
    """Submit results that revise earlier ones, by sample, and return how many were recorded."""
    standing = await _standing(clients, run_id)
    if unknown := said.keys() - standing.keys():
        raise await _nothing_said(clients, run_id, min(unknown), standing)
    results = [
        LabelResult(
            request_id=str(RequestId(run_id, standing[sample_id][0], sample_id)),
            annotator=annotator,
            revision=standing[sample_id][1] + 1,
            **answer,
        )
        for sample_id, answer in said.items()
    ]
    response = await clients.oracle.SubmitResults(SubmitResultsRequest(results=results))
    return int(response.recorded)


async def _nothing_said(clients: Clients, run_id: str, sample_id: int, standing: Container[int]) -> InvalidInput:
    """Return the error for a sample without a result, which says whose label it shares if it equals one that has."""
    samples = SampleNames(clients.oracle, run_id)
    first_equal = await samples.first_equal(await _pool(clients, run_id))
    equal = equal_samples(sample_id, first_equal)
    if asked := [each for each in equal if each in standing]:
        names = await samples.of([asked[0]])
        message = (
            f"sample {sample_id} equals sample {asked[0]} ({names[asked[0]]!r}) and shares its label: name that one "
            "instead, which changes the label of both"
        )
        return InvalidInput("SHARES_A_LABEL", message, sample_id=sample_id, equal_to=asked[0])
    message = f"nobody has said anything of sample {sample_id} yet: `labelloop label submit` takes labels"
    return InvalidInput("NOTHING_SAID", message, sample_id=sample_id)


async def _standing(clients: Clients, run_id: str) -> dict[int, tuple[int, int]]:
    """Return the round and the highest revision of the recorded results, by sample."""
    standing: dict[int, tuple[int, int]] = {}
    async for event in listed_answers(clients, run_id):
        said = getattr(event, event.WhichOneof("payload") or "")
        number = said.revision if event.HasField("answer_given") else said.answer_revision
        _, before = standing.get(said.sample_id, (0, 0))
        standing[said.sample_id] = (event.round, max(before, number))
    return standing
