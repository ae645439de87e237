"""ScorerClient: several scorers rank as one, even if some fail."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded, NotFound, WrongState
from labelloop.scorer.v1.scorer_pb2 import RankPoolRequest, RankPoolResponse, Strategy

from tests.integration.scorers import AWAY, Pool, Scorer, ranking, scorer_of, scorers, served
from tests.patience import PATIENCE_S
from trainer_svc.scorers.addresses import Host
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.scorers.columns import Columns

SIZES = (5, 30, 7, 1, 12, 9, 4, 20) * 5  # enough that each scorer gets some, whatever its port


async def rank(scorer_client: ScorerClient, pool: Pool, limit: int = 10, model: str = "m") -> RankPoolResponse:
    return await scorer_client.rank(pool.digest, model, Strategy.STRATEGY_MARGIN, limit, [0, 6, 7, 42], 1)


def shards_asked(scorer: Scorer) -> list[int]:
    return [place for request in scorer.asked if isinstance(request, RankPoolRequest) for place in request.shards]


async def whole(limit: int = 10, model: str = "m") -> RankPoolResponse:
    """The ranking of one scorer."""
    pool = Pool(*SIZES)
    async with scorers(pool, 1) as made, ranking(pool, made) as scorer_client:
        return await rank(scorer_client, pool, limit, model)


@pytest.mark.parametrize("model", ["m", ""])
@pytest.mark.parametrize("limit", [1, 10, 1_000, 0])
async def test_several_scorers_rank_as_one_does(limit: int, model: str) -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        assert await rank(scorer_client, pool, limit, model) == await whole(limit, model)
        assert sorted(place for scorer in made for place in shards_asked(scorer)) == list(range(len(SIZES)))
        assert all(len(scorer.asked) <= 1 for scorer in made)


def numbers(ranked: RankPoolResponse | Columns) -> list[list[float]]:
    return [[*map(float, column)] for column in (ranked.sample_ids, ranked.predicted, ranked.confidence, ranked.score)]


async def rank_all(scorer_client: ScorerClient, pool: Pool, model: str = "m") -> Columns:
    return await scorer_client.rank_all(pool.digest, model, Strategy.STRATEGY_MARGIN, [0, 6, 7, 42], 1)


@pytest.mark.parametrize("model", ["m", ""])
@pytest.mark.parametrize("count", [1, 3])
async def test_a_whole_pool_is_ranked_in_parts_as_at_once(count: int, model: str) -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, count) as made, ranking(pool, made) as scorer_client:
        assert numbers(await rank_all(scorer_client, pool, model)) == numbers(await whole(0, model))
        assert all(len(scorer.asked) <= 1 for scorer in made)


async def test_a_stream_that_breaks_is_asked_for_again() -> None:
    pool = Pool(*SIZES)
    for count in (1, 3):
        async with scorers(pool, count) as made, ranking(pool, made) as scorer_client:
            for scorer in made:
                scorer.breaks_after = 2
            assert numbers(await rank_all(scorer_client, pool)) == numbers(await whole(0))
            assert any(scorer.breaks_after < 2 for scorer in made)


@pytest.mark.parametrize("older", [1, 3])
async def test_scorers_without_streams_are_asked_for_one_message(older: int) -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        for scorer in made[:older]:
            scorer.has_streams = False
        assert numbers(await rank_all(scorer_client, pool)) == numbers(await whole(0))


async def test_more_than_a_message_holds_waits_for_newer_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer_svc.scorers.client._ONE_MESSAGE_SAMPLES", 400)
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        assert len(await rank_all(scorer_client, pool)) == sum(SIZES) - 4
        for scorer in made:
            scorer.has_streams = False
        with pytest.raises(WrongState, match="too old to rank 436 samples"):
            await rank_all(scorer_client, pool)


async def test_a_stream_about_other_shards_is_detected() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        made[0].heeds_shards = made[1].heeds_shards = False
        with pytest.raises(Corrupt):
            await rank_all(scorer_client, pool)


async def test_a_shard_stays_with_its_scorer_and_the_manifest_is_read_once() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        await rank(scorer_client, pool)
        first = [shards_asked(scorer) for scorer in made]
        await rank(scorer_client, pool)
        assert [shards_asked(scorer) for scorer in made] == [places * 2 for places in first]
        assert pool.reads == 1


async def test_a_single_scorer_gets_one_call_for_the_whole_pool() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 1) as made, ranking(pool, made) as scorer_client:
        await rank(scorer_client, pool)
        assert [list(request.shards) for request in made[0].asked if isinstance(request, RankPoolRequest)] == [[]]
        assert pool.reads == 1  # for its size, which decides how long the call may take


async def test_a_pool_of_one_shard_is_served_by_one_scorer() -> None:
    pool = Pool(50)
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        await rank(scorer_client, pool)
        await scorer_client.samples(pool.digest, [3, 1], 8)
        assert sorted(len(scorer.asked) for scorer in made) == [0, 0, 2]


@pytest.mark.parametrize("sample_bytes", [8, 1024 * 1024], ids=["at once", "in batches"])
async def test_samples_come_in_the_requested_order(sample_bytes: int) -> None:
    pool = Pool(*SIZES)
    wanted = np.random.default_rng(1).permutation(len(pool.samples)).tolist()
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        samples = await scorer_client.samples(pool.digest, wanted, sample_bytes)
        assert np.array_equal(samples, pool.samples[wanted])
        assert all(scorer.asked for scorer in made)


@pytest.mark.parametrize(
    ("sample_values", "feature_count"), [(2, 1), (2, 60_000), (40_000, 1)], ids=["small", "many features", "large"]
)
async def test_features_of_any_size_come_in_the_order_of_their_samples(sample_values: int, feature_count: int) -> None:
    """Requests and responses stay within the size of a message."""
    pool = Pool(1)
    samples = np.zeros((600, sample_values), np.float32)
    samples[:, 0] = np.arange(len(samples))
    async with scorers(pool, 1) as made, ranking(pool, made) as scorer_client:
        made[0].sample_values, made[0].feature_count = sample_values, feature_count
        async with asyncio.timeout(PATIENCE_S):
            features = await scorer_client.features("g", samples, feature_count)
        assert features.shape == (600, feature_count)
        assert np.array_equal(features[:, -1], samples[:, 0])


async def test_shards_of_a_failing_scorer_move_to_the_others_and_stay_there() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        victim = made[0]
        victim.fault = AWAY
        assert await rank(scorer_client, pool) == await whole()
        assert await rank(scorer_client, pool) == await whole()
        assert len(victim.asked) <= 1
        others = [place for scorer in made[1:] for place in shards_asked(scorer)]
        assert sorted(others) == sorted(2 * list(range(len(SIZES))))


async def test_shards_of_an_unreachable_scorer_are_ranked_by_the_others() -> None:
    pool = Pool(*SIZES)
    gone = scorer_of(pool)
    async with served(gone):
        pass
    async with scorers(pool, 2) as made, ranking(pool, [gone, *made]) as scorer_client:
        assert await rank(scorer_client, pool) == await whole()


@pytest.mark.parametrize("fault", [AWAY, LimitExceeded("OVERLOADED", "not now", retry_after_s=0.1)])
async def test_ranking_waits_until_a_scorer_answers(fault: LabelloopError) -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        for scorer in made:
            scorer.fault = fault
        asking = asyncio.create_task(rank(scorer_client, pool))
        for scorer in made:
            await scorer.called.wait()
        made[1].fault = None
        assert await asking == await whole()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_ranking_waits_until_the_only_scorer_is_back(host: str) -> None:
    pool = Pool(*SIZES)
    scorer = scorer_of(pool)
    async with served(scorer):
        pass
    replicas = ScorerChannels(f"{host}:{scorer.address.partition(':')[2]}")
    await replicas.look_up()
    asking = asyncio.create_task(rank(ScorerClient(replicas, pool), pool))
    (known,) = await replicas.known()
    while (state := known.channel.get_state()) != grpc.ChannelConnectivity.TRANSIENT_FAILURE:
        await known.channel.wait_for_state_change(state)
    async with served(scorer):
        assert await asking == await whole()
        assert len(scorer.asked) == 1
    await replicas.close()


@pytest.mark.parametrize(
    "fault", [NotFound("UNKNOWN_ARTIFACT", "no such model"), LimitExceeded("BATCH_TOO_LARGE", "ask for less")]
)
async def test_permanent_errors_are_raised_without_a_retry(fault: LabelloopError) -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 3) as made, ranking(pool, made) as scorer_client:
        for scorer in made:
            scorer.fault = fault
        with pytest.raises(type(fault), match=fault.message):
            await rank(scorer_client, pool)
        assert all(len(scorer.asked) <= 1 for scorer in made)


async def test_a_scorer_that_ranks_more_than_its_shards_is_detected() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        made[0].heeds_shards = made[1].heeds_shards = False
        with pytest.raises(Corrupt):
            await rank(scorer_client, pool)


async def test_no_samples_are_returned_if_one_scorer_sends_none() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        made[0].sends_samples = False
        ranked, expected = await rank(scorer_client, pool), await whole()
        assert not ranked.HasField("samples")
        assert list(ranked.sample_ids) == list(expected.sample_ids)


async def test_scorers_are_added_and_removed_as_their_host_name_changes() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 3) as made:
        there = made[:2]

        async def lookup(host: Host) -> list[str]:
            if not there:
                raise OSError("no such name")
            return [scorer.address for scorer in there]

        replicas = ScorerChannels("scorers:1", lookup=lookup)
        scorer_client = ScorerClient(replicas, pool)
        asking = asyncio.create_task(rank(scorer_client, pool))
        await replicas.look_up()
        assert await asking == await whole()
        assert [bool(scorer.asked) for scorer in made] == [True, True, False]
        stays = (await replicas.known())[1]
        there = made[1:]
        await replicas.look_up()
        assert (await replicas.known())[0] is stays  # with its connection and state
        await rank(scorer_client, pool)
        assert [len(scorer.asked) for scorer in made] == [1, 2, 1]
        there = []
        await replicas.look_up()  # no name server: the last known ones stay in use
        await rank(scorer_client, pool)
        assert [len(scorer.asked) for scorer in made] == [1, 3, 2]
        await replicas.close()


async def test_a_sample_id_outside_the_pool_is_refused_by_a_scorer() -> None:
    pool = Pool(*SIZES)
    async with scorers(pool, 2) as made, ranking(pool, made) as scorer_client:
        for scorer in made:
            scorer.fault = InvalidInput("UNKNOWN_SAMPLE", "sample 440 lies outside the pool")
        with pytest.raises(InvalidInput):
            await scorer_client.samples(pool.digest, [440], 8)
