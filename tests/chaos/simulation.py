"""A simulated run: trainers and oracles that can be late, killed and restarted, around an event log in memory.

Nothing runs by itself: the caller makes each move through a method of ``World``, and the same moves in the same order
give the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from labelloop.domain.event_schema import shape_fault
from labelloop.domain.run_owners import SILENT_S
from labelloop.domain.sample_outcomes import outcome_of
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.subjects import subject_of
from labelloop.events.v1.events_pb2 import Event, LabelSource, RunStarted, SkipKind
from labelloop.oracle.v1.oracle_pb2 import (
    LabelResult,
    SkippedSample,
    SkipSamplesRequest,
    SubmitLabelsRequest,
    SubmitLabelsResponse,
    SubmitResultsRequest,
    SubmittedLabel,
)
from labelloop.scorer.v1.scorer_pb2 import Strategy

from tests.chaos.invariants import Audit, end_faults
from tests.chaos.members import RUN, Member, Oracle, Trainer, Write
from tests.chaos.stand_ins import (
    CLASSES,
    POOL_SIZE,
    TRUTH,
    chosen,
    draw_started,
    fitted,
    inherited_state,
    model_without_faults,
)
from tests.chaos.turns import Turns
from trainer_svc.domain.policy import Fit, next_step
from trainer_svc.domain.seeds import seed_for

MEMBERS_MAX = 3
_SWEEPS_MAX = 400  # many times what 20 rounds take without faults


class Violation(AssertionError):
    """An invariant does not hold."""


class Log:
    """An event log that refuses a second write to a subject, as the broker does."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.standing: dict[str, Recorded] = {}

    def write(self, event: Event) -> Recorded:
        """Append once; return the event that the subject now holds."""
        subject = subject_of(event)
        return self.standing[subject] if subject in self.standing else self.add(subject, event)

    def add(self, subject: str, event: Event) -> Recorded:
        recorded = Recorded(event, len(self.events) + 1)
        self.events.append(recorded)
        self.standing[subject] = recorded
        return recorded


@dataclass(frozen=True)
class Parts:
    """The parts of a world; tests insert faulty ones to see that they are detected."""

    log: Callable[[], Log] = Log
    trainer: Callable[[World], Trainer] = Trainer
    oracle: Callable[[World], Oracle] = Oracle


class World:
    """A simulated run. A move's numbers pick among candidates, modulo their count; without any, it does nothing."""

    def __init__(self, started: RunStarted, trainers: int, oracles: int, parts: Parts | None = None) -> None:
        self.started, self._parts = started, parts or Parts()
        self.loop = Turns()  # type: ignore[abstract]  # the methods left out are I/O
        self.log, self.audit = self._parts.log(), Audit()
        self.artifacts: dict[str, bytes] = {}
        if started.inheritance.training_state_sha256:
            self.artifacts[started.inheritance.training_state_sha256] = inherited_state(started)
        self.writes: list[Write] = []
        self.acknowledgements: list[tuple[Write, Recorded]] = []
        self.works: list[tuple[Any, Callable[[], Any]]] = []
        self.acknowledged: dict[tuple[int, int], Event] = {}
        self.told_recorded = 0
        self._lost: list[str] = []
        self._time_s = self._names = 0
        self.seconds = 0.0
        self.makers: list[Callable[[World], Member]] = [self._parts.trainer] * trainers + [self._parts.oracle] * oracles
        self.members: list[Member] = []
        self._arrive(Event(run_id=RUN, run_started=started))
        self.members += [maker(self) for maker in self.makers]
        self.loop.turn()

    # Called by members.

    def new_name(self) -> str:
        self._names += 1
        return f"member-{self._names}"

    async def write(self, event: Event) -> Recorded:
        self._time_s += 1
        event.recorded_at.seconds = self._time_s
        heard = self.loop.create_future()
        self.writes.append(Write(event, heard))
        recorded: Recorded = await heard
        return recorded

    def work(self, result: Callable[[], Any]) -> asyncio.Future[Any]:
        done = self.loop.create_future()
        self.works.append((done, result))
        return done

    def told(self, request: SubmitLabelsRequest, response: SubmitLabelsResponse) -> None:
        self.told_recorded += response.recorded
        held = {event.label_provided.sample_id for event in self.events if event.HasField("label_provided")}
        if lost := {label.sample_id for label in request.labels} - held - self.skipped:
            self._lost.append(f"labels of samples {sorted(lost)} were accepted, but stand nowhere")
        if not self.over:  # afterwards, nothing is recorded any more
            self._note_vanished({(label.sample_id, label.label) for label in request.labels}, request.annotator)

    def _note_vanished(self, accepted: set[tuple[int, int]], annotator: str) -> None:
        """Note classes that an annotator gave, that were accepted, and of which the log says nothing.

        Of another annotator's label of the same class, it need not say that this one agrees; nor does it say more of a
        sample that was withdrawn or skipped.
        """
        late = [event.answer_given for event in self.events if event.HasField("answer_given")]
        kept = {(each.sample_id, each.late_label) for each in late if each.annotator == annotator}
        provided = [event.label_provided for event in self.events if event.HasField("label_provided")]
        kept |= {(each.sample_id, each.label) for each in provided}
        unsettled = {event.label_withdrawn.sample_id for event in self.events if event.HasField("label_withdrawn")}
        vanished = [each for each in sorted(accepted - kept) if each[0] not in unsettled | self.skipped]
        if vanished:
            self._lost.append(f"contradictions {vanished} by {annotator} were accepted, and vanished")

    @property
    def events(self) -> list[Event]:
        return [recorded.event for recorded in self.log.events if recorded.event is not None]

    @property
    def skipped(self) -> set[int]:
        """Samples that were skipped."""
        return {event.sample_skipped.sample_id for event in self.events if event.HasField("sample_skipped")}

    @property
    def over(self) -> bool:
        return self.audit.state is not None and self.audit.state.over

    # Moves without faults; each returns whether it moved anything.

    def deliver(self, who: int, count: int) -> bool:
        """Deliver the next events to a member."""
        member = self.members[who % len(self.members)]
        if not member.alive or member.seen == len(self.log.events):
            return False
        for recorded in self.log.events[member.seen : member.seen + count]:
            member.read(recorded)
        self._turn()
        return True

    def arrive(self, which: int) -> bool:
        """Let an append reach the log."""
        if not self.writes:
            return False
        write = self.writes.pop(which % len(self.writes))
        recorded = self._arrive(write.event)
        if not write.heard.done():
            ours = recorded.event is write.event
            self.acknowledgements.append((write, replace(recorded, ours=ours)))
        return True

    def _arrive(self, event: Event) -> Recorded:
        if fault := shape_fault(event):
            raise Violation(fault)
        before = len(self.log.events)
        expected = self._model_of_now() if event.HasField("model_trained") else ""
        recorded = self.log.write(event)
        if len(self.log.events) > before and expected not in ("", event.model_trained.model_sha256):
            raise Violation("the model was fitted on other labels than the log had for it")
        if len(self.log.events) > before and (found := self.audit.take(event)):
            raise Violation("; ".join(found))
        return recorded

    def _model_of_now(self) -> str:
        """The model to be fitted next according to the log; empty if none is."""
        state = self.audit.state
        if state is None or state.over or not isinstance(next_step(state), Fit):
            return ""
        return fitted(state)

    def acknowledge(self, which: int) -> bool:
        """Tell a writer which event is recorded."""
        if not self.acknowledgements:
            return False
        write, recorded = self.acknowledgements.pop(which % len(self.acknowledgements))
        if not write.heard.done():
            self._note_outcome(recorded.event)
            write.heard.set_result(recorded)
            self._turn()
        return True

    def _note_outcome(self, event: Event | None) -> None:
        outcome = outcome_of(event) if event is not None else None
        if event is not None and outcome is not None:
            place = (outcome.sample_id, outcome.revision)
            if self.acknowledged.setdefault(place, event) != event:
                raise Violation(f"two answers at revision {place[1]} of sample {place[0]} were acknowledged")

    def finish_work(self, which: int) -> bool:
        """Complete work of a scorer, a fit or a store."""
        if not self.works:
            return False
        done, result = self.works.pop(which % len(self.works))
        if not done.done():
            done.set_result(result())
            self._turn()
        return True

    def _turn(self) -> None:
        self.loop.turn()
        if self._lost:
            raise Violation("; ".join(self._lost))
        if self.loop.sleepers:  # a member backs off, though no peer is ever unavailable here
            problems = [member.projections.problems.get(RUN, "") for member in self.members if member.alive]
            raise Violation("; ".join(problem for problem in problems if problem) or "somebody sleeps")

    # Faults.

    def leave_behind(self, which: int) -> None:
        """Let the writer of an append in flight give up waiting and try again."""
        if self.writes:
            write = self.writes[which % len(self.writes)]
            if not write.heard.done():
                self.writes.append(write)

    def lose_write(self, which: int) -> None:
        """Drop an append. A writer that still waits for it tries again, after all others."""
        if self.writes:
            write = self.writes.pop(which % len(self.writes))
            if not write.heard.done():
                self.writes.append(write)

    def lose_acknowledgement(self, which: int) -> None:
        """Drop the acknowledgement of a recorded append, so that its writer tries again."""
        if self.acknowledgements:
            write, _ = self.acknowledgements.pop(which % len(self.acknowledgements))
            if not write.heard.done():
                self.writes.append(write)

    def kill(self, who: int, *, lose: bool) -> None:
        """Kill a member; its appends in flight are lost, or arrive at any later time."""
        place = who % len(self.members)
        if not self.members[place].alive:
            return
        self.members[place].kill()
        self.loop.turn()
        self.works = [work for work in self.works if not work[0].done()]
        self.acknowledgements = [
            (write, recorded) for write, recorded in self.acknowledgements if not write.heard.done()
        ]
        if lose:
            self.writes = [write for write in self.writes if not write.heard.done()]

    def start(self, who: int) -> None:
        """Restart a dead member, which replays the log."""
        place = who % len(self.members)
        if not self.members[place].alive:
            self.members[place] = self.makers[place](self)
            self.loop.turn()

    def repeat(self, who: int, count: int) -> None:
        """Deliver its last events to a member once more."""
        member = self.members[who % len(self.members)]
        if member.alive:
            for recorded in self.log.events[max(0, member.seen - count) : member.seen]:
                member.read(recorded)
            self._turn()

    def hear(self, who: int, other: int, *, there: bool) -> None:
        """Let a member take another of its service, alive or dead, for there or for gone."""
        one, another = self.members[who % len(self.members)], self.members[other % len(self.members)]
        if one.alive and isinstance(another, Trainer) == isinstance(one, Trainer):
            one.hear(another, there=there)
            self._turn()

    def acquaint(self) -> None:
        """Let every member know which others are there."""
        for who in range(len(self.members)):
            for other, member in enumerate(self.members):
                self.hear(who, other, there=member.alive)

    def pass_in_silence(self) -> None:
        """Let so much time pass that every member takes the others for gone."""
        until = self.seconds + 2 * SILENT_S
        while self.seconds < until:
            self.seconds += SILENT_S / 3
            for member in self.members:
                if member.alive:
                    member.look()
            self._turn()

    # People.

    def cancel(self, who: int) -> None:
        member = self.members[who % len(self.members)]
        if isinstance(member, Trainer) and member.alive:
            member.cancel()
            self._turn()

    def open_samples(self, who: int) -> list[int]:
        """Samples that an oracle shows to annotators."""
        member = self.members[who % len(self.members)]
        if not isinstance(member, Oracle) or not member.alive:
            return []
        try:
            member.open_samples().send(None)
        except StopIteration as answer:
            shown: list[int] = answer.value
            return shown
        raise Violation("a list of open samples is at hand")

    def submit(self, who: int, labels: list[tuple[int, int]], annotator: str) -> None:
        member = self.members[who % len(self.members)]
        if isinstance(member, Oracle) and member.alive and labels:
            given = [SubmittedLabel(sample_id=sample_id, label=label) for sample_id, label in labels]
            member.submit(SubmitLabelsRequest(run_id=RUN, annotator=annotator, labels=given))
            self._turn()

    def skip(self, who: int, sample_ids: list[int]) -> None:
        member = self.members[who % len(self.members)]
        if isinstance(member, Oracle) and member.alive and sample_ids:
            given = [SkippedSample(sample_id=each, kind=SkipKind.SKIP_KIND_SKIPPED) for each in sample_ids]
            member.skip(SkipSamplesRequest(run_id=RUN, annotator="c", samples=given))
            self._turn()

    def say_anew(self, who: int, sample_id: int, label: int | None, revision: int) -> None:
        """Revise the label of a sample, or withdraw it."""
        member, state = self.members[who % len(self.members)], self.audit.state
        if state is None or not isinstance(member, Oracle) or not member.alive:
            return
        place = f"{RUN}/{state.answers.rounds.get(sample_id, 0)}/{sample_id}"
        result = LabelResult(request_id=place, annotator="d", revision=revision)
        if label is None:
            result.withdrawn = result.overrules = True
        else:
            result.label = label
        member.say(SubmitResultsRequest(results=[result]))
        self._turn()

    # The end.

    def calm_down(self, rng: Random) -> None:
        """Check that without more faults the run ends and all members agree.

        Appends of dead members arrive before or after its end.
        """
        for place in range(len(self.members)):
            self.start(place)
        self.pass_in_silence()
        self.acquaint()
        stale = [write for write in self.writes if write.heard.done() and rng.random() < 0.5]
        self.writes = [write for write in self.writes if write not in stale]
        self._sweep_until_quiet(rng)
        if not self.over:
            raise Violation("the run does not end, though nothing is in its way")
        self.writes += stale
        self._sweep_until_quiet(rng)
        self._check_end()

    def _sweep_until_quiet(self, rng: Random) -> None:
        for _ in range(_SWEEPS_MAX):
            if not self._sweep(rng):
                return
        raise Violation(f"something still goes on after {_SWEEPS_MAX} sweeps")

    def _sweep(self, rng: Random) -> bool:
        """Complete everything in flight; False if nothing was."""
        busy = any(member.seen < len(self.log.events) for member in self.members)
        busy = busy or bool(self.writes or self.acknowledgements or self.works)
        for place in rng.sample(range(len(self.members)), len(self.members)):
            self.deliver(place, len(self.log.events))
        for _ in range(len(self.writes)):
            self.arrive(rng.randrange(MEMBERS_MAX))
        while self.acknowledgements:
            self.acknowledge(0)
        for _ in range(len(self.works)):
            self.finish_work(rng.randrange(MEMBERS_MAX))
        return busy or self._answer_all()

    def _answer_all(self) -> bool:
        """Label all samples that an oracle still shows."""
        for place in range(len(self.members)):
            if shown := self.open_samples(place):
                self.submit(place, [(sample_id, TRUTH[sample_id]) for sample_id in shown], "last")
                return True
        return False

    def _check_end(self) -> None:
        state = self.audit.state
        assert state is not None
        found = end_faults(state) + self._lost_answers()
        paid, given = len(self.audit.paid), sum(event.HasField("label_provided") for event in self.events)
        if paid != state.labels_paid and not state.answers.changed:
            found.append(f"{paid} labels stand in the log, {state.labels_paid} are counted")
        if self.told_recorded > given:
            found.append(f"people were told of {self.told_recorded} labels recorded, {given} are")
        if state.ended is not None and state.ended.kind == "run_finished" and not self.audit.revised:
            labels = {example.sample_id: example.label for example in state.training}
            if state.model_sha256 != model_without_faults(self.started, labels, self.skipped):
                found.append("the final model is not that of the run without faults")
        order = chosen("", seed_for(state.spec.seed, "control"), Strategy.STRATEGY_RANDOM, len(state.controls), ())
        if state.controls and state.controls != set(order):
            found.append(f"controls {sorted(state.controls)} are not the first of their random order, {order}")
        found += self._disagreements()
        if found:
            raise Violation("; ".join(found))

    def _lost_answers(self) -> list[str]:
        """Results that were acknowledged, but that the log does not hold."""
        standing = {subject_of(event): event for event in self.events}
        return [
            f"{subject_of(event)} was acknowledged, but the log holds {standing.get(subject_of(event))}"
            for event in self.acknowledged.values()
            if standing.get(subject_of(event)) != event
        ]

    def _disagreements(self) -> list[str]:
        state = self.audit.state
        assert state is not None
        expected = [(example.sample_id, example.label) for example in state.labelled]
        found = []
        for member in self.members:
            held = member.projections.runs[RUN]
            if member.projections.refused:
                found.append(f"events {sorted(member.projections.refused)} are passed over")
            if isinstance(member, Trainer):
                labelled = [(example.sample_id, example.label) for example in held.labelled]
                if labelled != expected or held.model_sha256 != state.model_sha256 or held.ended != state.ended:
                    found.append("a trainer holds another run than the log")
        return found

    def close(self) -> None:
        for member in self.members:
            member.kill()
        self.loop.turn()


class Schedule:
    """Everything that a seed decides: the run, its members, and each move."""

    def __init__(self, seed: int, parts: Parts | None = None) -> None:
        rng = self._rng = Random(seed)
        self.world = World(draw_started(rng), rng.randint(1, MEMBERS_MAX), rng.randint(1, MEMBERS_MAX), parts)
        self._count = len(self.world.members)
        self._lazy = [rng.choice((0.0, 0.0, 0.5, 0.95)) for _ in range(self._count)]
        self._moves = rng.choice((20, 100, 200, 300))
        self._fault_rate = rng.choice((0.03, 0.1, 0.25))
        self._cancel_at = rng.randrange(self._moves) if rng.random() < 0.2 else -1
        self._queue = self.world.started.spec.label_source == LabelSource.LABEL_SOURCE_QUEUE
        self._skip_rate = rng.choice((0.0, 0.0, 0.4)) if self._queue else 0.0
        self._revision_rate = rng.choice((0.0, 0.0, 0.6)) if self._queue else 0.0
        self._shown: list[int] = []
        self._hearing = Random(f"{seed} hearing")  # apart, so that members that know no other make the same moves
        self._hear_rate = self._hearing.choice((0.0, 0.0, 0.05, 0.3))

    def run(self) -> None:
        if self._hear_rate:
            self.world.acquaint()
        for number in range(self._moves):
            if number == self._cancel_at:
                for place in range(self._count):
                    self.world.cancel(place)
            if self._hearing.random() < self._hear_rate:
                who, other = self._hearing.randrange(64), self._hearing.randrange(64)
                self.world.hear(who, other, there=self._hearing.random() < 0.6)
            if self._rng.random() < self._fault_rate:
                self._fault()
            else:
                self._go_on()
        self.world.calm_down(self._rng)

    def _go_on(self) -> None:
        world, which, choice = self.world, self._rng.randrange(64), self._rng.random()
        if self._queue and choice < 0.07:
            self._label(which)
            return
        moves = (self._deliver, world.arrive, world.acknowledge, world.finish_work)
        first = 0 if choice < 0.35 else 1 + which // 22
        for i in range(len(moves)):
            if moves[(first + i) % len(moves)](which):
                return

    def _deliver(self, which: int) -> bool:
        place = which % self._count
        return self._rng.random() >= self._lazy[place] and self.world.deliver(place, 1 + which // 8)

    def _fault(self) -> None:
        world, which = self.world, self._rng.randrange(64)
        match self._rng.randrange(8):
            case 0 | 1:
                world.kill(which, lose=self._rng.random() < 0.3)
            case 2 | 3:
                for place in range(self._count):
                    world.start(place)
            case 4:
                world.leave_behind(which)
            case 5:
                world.lose_write(which)
            case 6:
                world.lose_acknowledgement(which)
            case _:
                world.repeat(which, 1 + which // 16)

    def _label(self, which: int) -> None:
        """Label, skip or revise samples shown now or earlier, sometimes wrongly or twice."""
        rng = self._rng
        self._shown = self.world.open_samples(which) or self._shown
        if rng.random() < self._revision_rate:
            label = rng.choice((None, *range(len(CLASSES))))
            self.world.say_anew(rng.randrange(self._count), rng.randrange(POOL_SIZE), label, rng.randrange(5))
            return
        if rng.random() < 0.1:
            self._shown = [rng.randrange(POOL_SIZE)]
        picked = rng.sample(self._shown, rng.randint(0, len(self._shown)))
        if rng.random() < self._skip_rate:
            self.world.skip(rng.randrange(self._count), picked)
            return
        wrong = rng.choice((0.0, 0.5))
        labels = [(i, rng.randrange(len(CLASSES) + 1) if rng.random() < wrong else TRUTH[i]) for i in picked]
        if labels and rng.random() < 0.05:
            labels.append(labels[0])
        for _ in range(rng.choice((1, 1, 2))):
            self.world.submit(rng.randrange(self._count), labels, rng.choice("ab"))


def run_schedule(seed: int, parts: Parts | None = None) -> None:
    """Run the schedule of ``seed``; AssertionError if an invariant is violated."""
    schedule = Schedule(seed, parts)
    try:
        schedule.run()
    except Exception as error:
        what = str(error) if isinstance(error, Violation) else repr(error)
        raise AssertionError(f"seed {seed}: {what} (replay: python -m tests.chaos.schedules --only {seed})") from error
    finally:
        schedule.world.close()
