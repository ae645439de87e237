"""Write the HTML report of a run for ``labelloop report``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from labelloop.artifacts.texts import decode_texts
from labelloop.domain.limits import BY_CLASS_MAX, TEXT_DTYPE
from labelloop.domain.proportion import Proportion
from labelloop.domain.shown_pool import shown_pool
from labelloop.errors import WrongState
from labelloop.events.v1.events_pb2 import FeatureKind, Protocol
from labelloop.scorer.v1.scorer_pb2 import GetSamplesRequest, Strategy
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, GetRunResponse, LabelRecord, Phase
from pyroaring import BitMap

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.operations.pictures import has_pictures, pictures
from labelloop_cli.output.replacement import PAGE, check_replaceable
from labelloop_cli.output.run_summary import estimate_of, measured_by
from labelloop_cli.reporting import evidence, sections
from labelloop_cli.reporting.asked import Asked, asked_for
from labelloop_cli.reporting.page import Tile, beginning, picture, render
from labelloop_cli.reporting.recall import auto_majority, balanced, guessing, recall
from labelloop_cli.reporting.truth import Truth, truth_of
from labelloop_cli.reporting.unlabelled import ranked_rest
from labelloop_cli.run_options import word
from labelloop_cli.sample_names import SampleNames
from labelloop_cli.shared_labels import shared_labels

_TILES, _ROWS = 40, 2_000
_TEXT_CHARACTERS = 200


async def write_report(run_id: str, output: Path, price: float | None, truth: Path | None = None) -> None:
    """Connect to the services and write the report of a run.

    Args:
        price: Price of a label; None for the one in the run's spec.
        truth: File of the pool's true classes.

    Raises:
        WrongState: If the run has no model to report on yet.
        InvalidInput: If ``output`` is there and no report.
    """
    check_replaceable(output, PAGE)
    async with connect(Endpoints()) as clients:
        await report_on(clients, run_id, output, price, truth)


async def report_on(
    clients: Clients, run_id: str, output: Path, price: float | None = None, truth: Path | None = None
) -> None:
    """Write the report as ``write_report`` does, over clients that are connected already."""
    page = await report_page(clients, run_id, price, truth)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")


async def report_page(clients: Clients, run_id: str, price: float | None = None, truth: Path | None = None) -> str:
    """Return the report of a run as HTML. Raises WrongState if it has no model to report on yet."""
    whole = await clients.trainer.GetRun(GetRunRequest(run_id=run_id))
    if not whole.rounds:
        raise WrongState("NO_MODEL_YET", f"run {run_id!r} has no model yet: there is nothing to report", run_id=run_id)
    labels = await clients.labels(run_id)
    samples = SampleNames(clients.oracle, run_id)
    known = await truth_of(whole.run, labels, truth, samples)
    asked = asked_for(labels, whole.run.spec, whole.run.pool.classes)
    shown = sections.first_of_each_round(asked, _TILES)
    names = await samples.own([each.sample_id for each in (*asked[:_ROWS], *shown)])
    tiles = await _tiles(clients, whole, shown, names)
    shared = [record for record, _ in shared_labels(labels, await samples.first_equal(whole.run.pool))]
    predicted = await _predicted(clients, whole, [*labels, *shared]) + Counter(record.label for record in shared)
    if price is None:
        price = whole.run.spec.stopping.label_price
    return run_page(whole, labels, asked, tiles, predicted, known, price, names, len(shared))


def run_page(
    whole: GetRunResponse,
    labels: list[LabelRecord],
    asked: list[Asked],
    tiles: list[Tile],
    predicted: Counter[int],
    truth: Truth | None,
    price: float,
    names: Mapping[int, str],
    shared: int = 0,
) -> str:
    """Render the report of a run.

    Args:
        labels: Its labels and auto-labels.
        predicted: Classes of the samples without one: predicted, or shared with an equal sample.
        names: The names of the samples that it lists, or nothing where they have none.
        shared: Number of samples that share the label of an equal one.
    """
    run = whole.run
    newest, classes = whole.rounds[-1], list(run.pool.classes)
    estimate = estimate_of(newest, run.spec.protocol, classes)
    measured = measured_by(newest, estimate) if estimate else None
    saved = evidence.labels_saved(whole)
    told = saved if isinstance(saved, evidence.Saved) else None
    return render(
        "run.html.j2",
        run=run,
        phase=word(Phase.Name(run.phase)),
        strategy=word(Strategy.Name(run.spec.strategy)),
        protocol=word(Protocol.Name(run.spec.protocol)),
        published=run.spec.protocol == Protocol.PROTOCOL_PUBLISHED,
        features=word(FeatureKind.Name(run.spec.features)) if run.spec.features else "pixels",
        rounds=whole.rounds,
        newest=newest,
        estimate=estimate,
        measured=measured,
        control=Proportion(newest.control.correct, newest.control.total) if newest.control.total else None,
        recall=recall(measured, classes) if measured else None,
        balanced=balanced(measured) if measured else None,
        by_class_max=BY_CLASS_MAX,
        guessing=partial(guessing, classes=classes),
        auto_majority=auto_majority(labels, classes),
        learning=sections.learning(whole),
        saved=told,
        not_saved=saved.why if isinstance(saved, evidence.NotKnown) else "",
        saved_curve=sections.saved_curve(whole, told) if told else "",
        auto=sections.auto_labels(labels, truth),
        stopping=sections.stopping(whole),
        reliability=sections.reliability(labels),
        calibration=sections.calibration(whole.rounds),
        balance=sections.balance(labels, predicted, truth, classes),
        purposes=Counter(each.why for each in asked),
        asked=asked[:_ROWS],
        names=names,
        asked_count=len(asked),
        tiles=tiles,
        price=price,
        left=run.pool.sample_count - len(labels) - shared,
        shared=shared,
    )


async def _predicted(clients: Clients, whole: GetRunResponse, labels: list[LabelRecord]) -> Counter[int]:
    """Count the newest model's predictions by class over the samples that are not in ``labels``."""
    taken = BitMap([label.sample_id for label in labels])
    found: Counter[int] = Counter()
    async for page in ranked_rest(clients, whole.run, taken):
        found.update(page.predicted)
    return found


async def _tiles(clients: Clients, whole: GetRunResponse, shown: list[Asked], names: Mapping[int, str]) -> list[Tile]:
    """Fetch the pictures or texts of ``shown``; none unless the samples are pictures or texts."""
    pool = whole.run.pool
    seen = shown_pool(pool)
    if seen.dtype == TEXT_DTYPE:
        return await _text_tiles(clients, seen.pool_sha256, shown, names)
    if not shown or not has_pictures(pool):
        return []
    images = await pictures(clients, pool, [each.sample_id for each in shown])
    return [
        Tile(picture(image), each.label, _note(each), names.get(each.sample_id, ""))
        for image, each in zip(images, shown, strict=True)
    ]


async def _text_tiles(clients: Clients, pool: str, shown: list[Asked], names: Mapping[int, str]) -> list[Tile]:
    """Fetch the texts one by one: together they may be more than one answer holds."""
    tiles = []
    for each in shown:
        answer = await clients.scorer.GetSamples(GetSamplesRequest(pool_sha256=pool, sample_ids=[each.sample_id]))
        [text] = decode_texts(answer.samples)
        name = names.get(each.sample_id, "")
        tiles.append(Tile("", each.label, _note(each), name, beginning(text, _TEXT_CHARACTERS)))
    return tiles


def _note(each: Asked) -> str:
    why = f"round {each.round}" + ("" if each.why == "chosen" else f", {each.why}")
    return why if each.confidence is None else f"{why}, {each.predicted}? {each.confidence:.2f}"
