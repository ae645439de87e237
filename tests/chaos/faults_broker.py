"""Faults of the broker: killed, down, a split cluster, deleted consumers."""

from __future__ import annotations

import asyncio
import os
import signal

from labelloop.errors import WrongState
from labelloop.eventlog.subjects import STREAM
from nats.js.api import StreamConfig

from tests.chaos.trial import Fault, Trial

_AWAY_S = 20.0


async def _kill(trial: Trial, away_s: float) -> None:
    await trial.reach()
    broker = trial.world.the_broker
    os.kill(broker.pid, signal.SIGKILL)
    try:
        await broker.wait()
    except WrongState:  # expected: it did not exit by itself
        await asyncio.sleep(away_s)
    await broker.start()
    await trial.over()


async def _kill_briefly(trial: Trial) -> None:
    await _kill(trial, 0)


async def _kill_for_long(trial: Trial) -> None:
    """By then the window in which the broker recognizes repeated ids is over."""
    js = trial.world.client.jetstream()
    config: StreamConfig = (await js.stream_info(STREAM)).config
    config.duplicate_window = 0.1
    await js.update_stream(config)
    await _kill(trial, _AWAY_S)


async def _delete_consumers(trial: Trial) -> None:
    await trial.reach()
    js = trial.world.client.jetstream()
    for consumer in await js.consumers_info(STREAM):
        await js.delete_consumer(STREAM, consumer.name)
    await trial.over()


async def _kill_leader(trial: Trial) -> None:
    cluster = trial.world.the_cluster
    await trial.reach()
    leader = cluster.nodes[await cluster.leader(trial.world.client)]
    await leader.stop(signal.SIGKILL)
    await trial.over()
    await trial.next_event()
    await leader.start()


async def _cut_off_one(trial: Trial) -> None:
    cluster = trial.world.the_cluster
    await trial.reach()
    cluster.cut_off(trial.rng.choice(sorted(cluster.nodes)))
    await trial.over()
    await asyncio.sleep(10)
    cluster.heal()


async def _cut_off_two(trial: Trial) -> None:
    """No two nodes can reach each other: nothing may be written until they can."""
    cluster = trial.world.the_cluster
    await trial.reach(0.05, 0.3)
    cluster.cut_off(*trial.rng.sample(sorted(cluster.nodes), 2))
    await asyncio.sleep(10)
    cluster.heal()
    await trial.over()


async def _roll(trial: Trial) -> None:
    cluster = trial.world.the_cluster
    await trial.reach(0.05, 0.3)
    for node in cluster.nodes.values():
        await node.stop()
        await node.start()
        await cluster.leader(trial.world.client)
    await trial.over()


FAULTS = [
    Fault("broker killed", "SIGKILL of nats-server, restarted at once on the same store", _kill_briefly),
    Fault(
        "broker away for 20 s",
        "SIGKILL, restarted on the same store after 20 s, a de-duplication window of 0.1 s long over",
        _kill_for_long,
    ),
    Fault("consumers deleted", "every consumer of the stream deleted through the broker's API", _delete_consumers),
    Fault("cluster: leader killed", "3 nodes, 3 replicas: SIGKILL of the leader, back later", _kill_leader, "cluster"),
    Fault(
        "cluster: one node cut off", "its connections to the others reset and refused for 10 s", _cut_off_one, "cluster"
    ),
    Fault("cluster: two nodes cut off", "no node reaches another for 10 s: it halts", _cut_off_two, "sound cluster"),
    Fault("cluster: rolling restart", "SIGTERM and restart of each node in turn", _roll, "cluster"),
]
