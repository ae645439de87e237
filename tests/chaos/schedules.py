"""Simulate runs by seeded schedules, on all cores: ``python -m tests.chaos.schedules --count 100000``."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time

import structlog
import torch

from tests.chaos.simulation import run_schedule

_CHUNK = 200


def _settle() -> None:
    """Silence logs of injected faults, which would hide the findings."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    torch.set_num_threads(1)
    gc.freeze()


def _run_chunk(seeds: range) -> tuple[int, list[str]]:
    found = []
    for seed in seeds:
        try:
            run_schedule(seed)
        except AssertionError as error:
            found.append(str(error))
    return len(seeds), found


def run_many(first: int, count: int) -> list[str]:
    """Return the violations of schedules from seed ``first`` on."""
    chunks = [range(i, min(i + _CHUNK, first + count)) for i in range(first, first + count, _CHUNK)]
    found: list[str] = []
    done, begin = 0, time.perf_counter()
    with multiprocessing.Pool(os.cpu_count(), initializer=_settle) as pool:
        for size, messages in pool.imap_unordered(_run_chunk, chunks):
            done += size
            found += messages
            rate = done / (time.perf_counter() - begin)
            print(
                f"\r{done:,} of {count:,}, {len(found)} violations, {rate:.0f}/s", end="", file=sys.stderr, flush=True
            )
    print(file=sys.stderr)
    print(f"{done} schedules, {len(found)} violations, {done / (time.perf_counter() - begin):.0f} a second")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--only", type=int, help="replay one seed, with its trace")
    given = parser.parse_args()
    if given.only is not None:
        run_schedule(given.only)
        print(f"seed {given.only}: nothing found")
        return 0
    found = run_many(given.seed, given.count)
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
