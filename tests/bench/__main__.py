"""``python -m tests.bench [NAME ...]``: run benchmarks, by default all; each writes out/bench/<name>.json."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from labelloop.observability.logs import set_up_logs

from tests.bench.article import article_vs_notebook, round_overhead
from tests.bench.article_peers import article_vs_peers
from tests.bench.demo import demo_seconds
from tests.bench.features import batches_of_a_million, features_of_60000
from tests.bench.fit_threads import published_fit_threads
from tests.bench.guarantee import guarantee_holds
from tests.bench.honest_fit import honest_fit
from tests.bench.inference import infer_vs_peers, infer_vs_score
from tests.bench.large_pool import large_pool
from tests.bench.large_pools import large_pools
from tests.bench.layouts import same_pictures, tables_with_time_stamps
from tests.bench.log_start import archived_log, live_memory, log_start
from tests.bench.long_run import long_run
from tests.bench.new_leader import new_leader
from tests.bench.peers.compare import peers
from tests.bench.picture_features import picture_features
from tests.bench.ranking import rank_growth, rank_vs_raw_scan, rank_vs_read_limit
from tests.bench.scaling import scaling_by_rule
from tests.bench.scoring import stream_rows, stream_rows_of_patches, unary_vs_echo
from tests.bench.strategy_peers import strategies_vs_peers
from tests.bench.texts import texts
from tests.bench.three_of_each import three_of_each

BENCHES: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
    "article_vs_notebook": article_vs_notebook,
    "round_overhead": round_overhead,
    "honest_fit": honest_fit,
    "published_fit_threads": published_fit_threads,
    "demo_seconds": demo_seconds,
    "long_run": long_run,
    "guarantee_holds": guarantee_holds,
    "features_of_60000": features_of_60000,
    "picture_features": picture_features,
    "batches_of_a_million": batches_of_a_million,
    "large_pools": large_pools,
    "large_pool": large_pool,
    "same_pictures": same_pictures,
    "tables_with_time_stamps": tables_with_time_stamps,
    "scaling_by_rule": scaling_by_rule,
    "log_start": log_start,
    "live_memory": live_memory,
    "archived_log": archived_log,
    "new_leader": new_leader,
    "three_of_each": three_of_each,
    "rank_vs_raw_scan": rank_vs_raw_scan,
    "rank_vs_read_limit": rank_vs_read_limit,
    "rank_growth": rank_growth,
    "unary_vs_echo": unary_vs_echo,
    "infer_vs_score": infer_vs_score,
    "infer_vs_peers": infer_vs_peers,
    "stream_rows": stream_rows,
    "stream_rows_of_patches": stream_rows_of_patches,
    "peers": peers,
    "article_vs_peers": article_vs_peers,
    "strategies_vs_peers": strategies_vs_peers,
    "texts": texts,
}
OUTPUT = Path("out/bench")


async def measure(name: str) -> None:
    result = {"name": name, **await BENCHES[name]()}
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"{name}: {result['value']:.3g} {result['unit']} ({result['target']}): {'met' if result['met'] else 'NOT MET'}"
    )


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    set_up_logs("bench", "text", "error")
    for name in names:
        asyncio.run(measure(name))


if __name__ == "__main__":
    main()
