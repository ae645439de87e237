"""Three annotators who label a run over the broker's queue of requests and results."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import QueueSpec
from nats.errors import Error as NatsError

from oracle_svc.integrations.nats import REQUESTS, RESULTS, STREAM
from tests.chaos.endings import Result
from tests.chaos.people import PEOPLE, Person
from tests.chaos.workforce import LOOK_AGAIN_S, Campaign, ThreePeople
from tests.chaos.world import World


@dataclass(frozen=True)
class AtAQueue(ThreePeople):
    """Three annotators of a tool: the first slot of each sample is the first one's, and so on."""

    def changes(self, world: World) -> dict[str, object]:
        changes = super().changes(world)
        queue = changes["queue"]
        assert isinstance(queue, QueueSpec), "people are asked by a queue"
        queue.tool = "nats"
        return changes

    async def label(self, world: World, run_id: str, rng: random.Random, acknowledged: set[Result]) -> None:
        campaign = _QueueCampaign(world, run_id, self.rule, self.habits, acknowledged)
        await campaign.answer_all()


class _QueueCampaign(Campaign):
    """One run, and the tool of those who label it."""

    async def answer_all(self) -> None:
        """Answer each request in the order of the queue until the run ends."""
        await self.world.watch.first(self.run_id, lambda seen: seen.kind == "pool_published")
        if self.rule.gold_first:
            for slot, person in enumerate(PEOPLE):
                for each in range(self.rule.gold):
                    await self._publish(person, f"{self.run_id}/0/{each}/{slot}", each)
            await self._gold_heard()
        sequence = 0
        while not self.over():
            if found := await self._next(sequence + 1):
                sequence, request_id = found
                sample_id, slot = map(int, request_id.split("/")[2:])
                # Further slots are of gold samples, for people who join later.
                if slot < len(PEOPLE) and not (self.rule.gold_first and sample_id < self.rule.gold):
                    await self._publish(PEOPLE[slot], request_id, sample_id)
            else:
                await self.world.watch.news(LOOK_AGAIN_S)

    async def _gold_heard(self) -> None:
        """Wait until everybody's results for gold samples are in the log."""
        wanted = {(person.name, each) for person in PEOPLE for each in range(self.rule.gold)}
        while wanted - {(e.answer_given.annotator, e.answer_given.sample_id) for e in self.events}:
            await self.world.watch.news(LOOK_AGAIN_S)

    async def _next(self, sequence: int) -> tuple[int, str] | None:
        """Return the first request from this place of the queue on, and its place; None if there is none yet."""
        js = self.world.client.jetstream(timeout=10)
        try:
            found = await js.get_msg(STREAM, sequence, f"{REQUESTS}.{self.run_id}.>", next=True)
        except NatsError:  # no such request, or the broker is away
            return None
        return found.seq or 0, str(json.loads(found.data or b"")["request_id"])

    async def _publish(self, person: Person, request_id: str, sample_id: int) -> None:
        """Send a result as often as the habit is, until the queue has it."""
        said = self.says(person.name, sample_id)
        answer = {"skip": "SKIP_KIND_SKIPPED"} if said is None else {"label": said}
        data = json.dumps({"request_id": request_id, "annotator": person.name, **answer}).encode()
        js = self.world.client.jetstream(timeout=10)
        for _ in range(self.habits.times):
            while True:
                try:
                    await js.publish(f"{RESULTS}.{self.run_id}", data)
                    break
                except NatsError:  # the broker is away
                    await self.world.watch.news(LOOK_AGAIN_S)
        self.acknowledged.add((person.name, sample_id, said))
