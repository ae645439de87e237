"""Start, follow and read runs from synchronous programs and notebooks."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, Unpack

from labelloop_cli.library.async_client import AsyncClient, AsyncPools
from labelloop_cli.library.async_run import AsyncRun
from labelloop_cli.library.loop_thread import LoopThread
from labelloop_cli.library.options import AnyPath, RunOptions
from labelloop_cli.library.requests import Request
from labelloop_cli.library.results import Records, Scores
from labelloop_cli.library.state import RunState
from labelloop_cli.run_spec.fields import Document


class Client:
    """A client of labelloop's services. Arguments, results and errors are those of :class:`AsyncClient`.

    ::

        from labelloop import Client

        with Client() as client:
            run = client.start("pictures/", classes=["cat", "dog"], labels_from="queue", budget=200)
            for state in run.watch():
                print(state.round, state.labels_open)
            frame = run.labels().to_pandas()
    """

    def __init__(
        self,
        host: str = "",
        *,
        trainer: str = "",
        scorer: str = "",
        oracle: str = "",
        tls_dir: AnyPath | None = None,
        retry_s: float | None = None,
    ) -> None:
        self._client = AsyncClient(
            host, trainer=trainer, scorer=scorer, oracle=oracle, tls_dir=tls_dir, retry_s=retry_s
        )
        self._loop = LoopThread()
        self.pools = Pools(self._loop, self._client.pools)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Runs go on."""
        if not self._loop.closed:
            self._loop.run(self._client.close())
            self._loop.close()

    def start(
        self,
        pool: Any = "",
        *,
        run_id: str = "",
        spec: Document | AnyPath | None = None,
        continues: str = "",
        known: AnyPath | None = None,
        upload: bool | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Start a run as :meth:`AsyncClient.start` does, and return it."""
        work = self._client.start(
            pool, run_id=run_id, spec=spec, continues=continues, known=known, upload=upload, **options
        )
        return Run(self._loop, self._loop.run(work))

    def run(self, run_id: str) -> Run:
        """Return a run by its id. Raises NotFound if there is none."""
        return Run(self._loop, self._loop.run(self._client.run(run_id)))

    def runs(self, *, archived: bool = False) -> list[RunState]:
        """Return where all runs stand that are not archived, or all that are; oldest first."""
        return self._loop.run(self._client.runs(archived=archived))


class Pools:
    """Pools on the oracle's disk, as :class:`AsyncPools`."""

    def __init__(self, loop: LoopThread, pools: AsyncPools) -> None:
        self._loop, self._pools = loop, pools

    def push(self, pool: Any, name: str = "") -> str:
        """Upload a file, folder, array or data frame, and return the name by which :meth:`Client.start` finds it."""
        return self._loop.run(self._pools.push(pool, name))

    def list(self) -> dict[str, str]:
        """Return the names of all uploads by id, oldest first."""
        return self._loop.run(self._pools.list())

    def remove(self, upload: str) -> None:
        """Remove an upload, given by its id, the beginning of it, or its name."""
        self._loop.run(self._pools.remove(upload))


class Run:
    """A run, as :class:`AsyncRun`.

    Attributes:
        id: Its id.
    """

    def __init__(self, loop: LoopThread, run: AsyncRun) -> None:
        self._loop, self._run, self.id = loop, run, run.id

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def state(self) -> RunState:
        """Return where it stands."""
        return self._loop.run(self._run.state())

    def spec(self) -> Document:
        """Return what it was started with; :meth:`Client.start` takes it as ``spec``."""
        return self._loop.run(self._run.spec())

    def watch(self) -> Iterator[RunState]:
        """Yield where it stands now, and each change until it ends."""
        return self._loop.iterate(self._run.watch())

    def wait(self, timeout_s: float | None = None) -> RunState:
        """Return where it stands once it has ended. WrongState if it failed, TimeoutError after ``timeout_s``."""
        return self._loop.run(self._run.wait(timeout_s))

    def cancel(self, reason: str = "cancelled by the operator") -> RunState:
        """End it early. The labels that it has stay."""
        return self._loop.run(self._run.cancel(reason))

    def labels(self, kind: str = "all") -> Records:
        """Return its labels: all, labels or auto-labels."""
        return self._loop.run(self._run.labels(kind))

    def unlabelled(self) -> Records:
        """Return the samples without a label, least confident first."""
        return self._loop.run(self._run.unlabelled())

    def model(self, round_: int = 0) -> bytes:
        """Return the model with which a round began, or the newest, as ONNX."""
        return self._loop.run(self._run.model(round_))

    def inference_session(self, round_: int = 0) -> Any:
        """Return an ``onnxruntime.InferenceSession`` of a model."""
        return self._loop.run(self._run.inference_session(round_))

    def score(self, samples: Any, *, probabilities: bool = False) -> Scores:
        """Return what the newest model says of samples, an array ``[n, *shape]`` or texts."""
        return self._loop.run(self._run.score(samples, probabilities=probabilities))

    def report(self, *, price: float | None = None, truth: AnyPath | None = None) -> str:
        """Return the report as HTML that needs no other file."""
        return self._loop.run(self._run.report(price=price, truth=truth))

    def lease(self, annotator: str, count: int = 1, *, lease_s: int = 600) -> builtins.list[Request]:
        """Return up to ``count`` samples to label, most wanted first; nobody else is given them meanwhile."""
        return self._loop.run(self._run.lease(annotator, count, lease_s=lease_s))

    def requests(self, annotator: str) -> Iterator[Request]:
        """Yield samples to label one after the other, as they come up, until the run ends."""
        return self._loop.iterate(self._run.requests(annotator))

    def submit(self, annotator: str, answers: Mapping[Request, str | int], *, comment: str = "") -> int:
        """Record the class of each request, or ``"skip"`` or ``"reject"``; return how many are new."""
        return self._loop.run(self._run.submit(annotator, answers, comment=comment))

    def release(self, annotator: str, requests: Sequence[Request]) -> int:
        """Give samples back, and return how many were theirs."""
        return self._loop.run(self._run.release(annotator, requests))
