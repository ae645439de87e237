"""Calls of Score that are answered at once get the bytes and the errors that its handler gives, whatever is posted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.errors import LabelloopError, NotAllowed, NotFound, to_status
from labelloop.rpc.call_metrics import CallCounts
from labelloop.rpc.drain import Drain
from labelloop.rpc.handlers import guarded
from labelloop.runtime.async_cache import AsyncCache
from labelloop.scorer.v1 import scorer_pb2 as pb
from labelloop.scorer.v1.scorer_pb2_grpc import add_ScorerServiceServicer_to_server

from scorer_svc.models.model import Model
from scorer_svc.scoring.score import Scoring
from scorer_svc.service import ScorerService
from tests.unused import UNUSED
from trainer_svc.model.onnx_export import to_onnx

FEATURES, CLASSES, RUN = 12, 3, "run-1"


@cache
def model(dtype: str, spread: float = 0.5) -> Model:
    weights = np.random.default_rng(3).normal(0, spread, (CLASSES, FEATURES + 1)).astype(np.float32)
    made = Model(to_onnx(weights, dtype), dtype)
    assert made.wants_row_kernel()
    made.make_row_kernel()
    return made


DIGESTS = {
    "a" * 64: ("uint8", 0.5),
    "b" * 64: ("float32", 0.5),
    "c" * 64: ("uint8", 300.0),
    "d" * 64: ("float32", 1e38),
}
KNOWN = next(iter(DIGESTS))


class Newest:
    """One run, with the first of the models."""

    def digest(self, run_id: str) -> str:
        if run_id != RUN:
            raise NotFound("NO_RUN", f"there is no run {run_id!r}", run_id=run_id)
        return KNOWN


@dataclass
class Context:
    """The context of a call."""

    remaining_s: float | None = None
    names: tuple[bytes, ...] = ()
    ended: list[Any] = field(default_factory=list)

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def code(self) -> Any:
        return self.ended[-1]

    def auth_context(self) -> dict[str, Any]:
        return {"x509_common_name": self.names}

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.ended += [details, code]
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: Any) -> None:
        self.ended += [status.details, status.trailing_metadata, status.code]
        raise grpc.aio.AbortError


class Asked:
    """A server to register with, that keeps the handlers."""

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        [self.handlers] = handlers

    def score(self) -> Any:
        @dataclass
        class Details:
            method: str = "/labelloop.scorer.v1.ScorerService/Score"
            invocation_metadata: tuple[()] = ()

        return self.handlers.service(Details())


@dataclass
class Served:
    """Score with and without a shortcut."""

    with_shortcut: Any
    without: Any
    at_once: list[bytes | None]
    counts: CallCounts

    async def answers(self, data: bytes, **about: Any) -> tuple[Any, Any]:
        """What both give for ``data``: bytes, or how the call ended."""
        return await answer(self.with_shortcut, data, **about), await answer(self.without, data, **about)


async def answer(handler: Any, data: bytes, **about: Any) -> Any:
    context = Context(**about)
    try:
        return handler.response_serializer(await handler.unary_unary(data, context))
    except (LabelloopError, grpc.aio.AbortError):
        return context.ended


async def serving(check_of: Any = None, drain: Drain | None = None) -> Served:
    async def load(digest: str) -> Model:
        if digest not in DIGESTS:
            raise NotFound("NO_MODEL", "there is none", model=digest)
        return model(*DIGESTS[digest])

    models = AsyncCache(load, kept=9)
    for digest in DIGESTS:
        await models.get(digest)
    scoring = Scoring(ThreadPoolExecutor(1))
    service = ScorerService(UNUSED, UNUSED, UNUSED, models, cast(Any, Newest()), scoring, UNUSED, 1, UNUSED)
    at_once: list[bytes | None] = []

    def shortcut(request: pb.ScoreRequest, context: Any) -> bytes | None:
        at_once.append(None)
        at_once[-1] = service.score_at_once(request, context)
        return at_once[-1]

    counts = CallCounts()
    found = []
    for shortcuts in ({"Score": shortcut}, None):
        asked: Any = Asked()
        options = {} if check_of is None else {"check_of": check_of}
        server = guarded(asked, counts, drain=drain, shortcuts=shortcuts, **options)
        add_ScorerServiceServicer_to_server(service, server)
        found.append(asked.score())
    return Served(found[0], found[1], at_once, counts)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def served(loop: asyncio.Runner) -> Served:
    return loop.run(serving())


def posted(images: bytes = bytes(range(FEATURES)), **fields: Any) -> pb.ScoreRequest:
    return pb.ScoreRequest(**{"model_sha256": KNOWN, "dtype": "uint8", "images": images, **fields})


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_the_common_call_is_answered_at_once_with_the_same_bytes(
    served: Served, loop: asyncio.Runner, count: int
) -> None:
    images = np.random.default_rng(count).integers(0, 256, FEATURES * count).astype(np.uint8).tobytes()
    for request in (posted(images), posted(images, run_id=RUN)):
        ours, theirs = loop.run(served.answers(request.SerializeToString()))
        assert isinstance(ours, bytes)
        assert ours == theirs == served.at_once[-1]


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


FLOATS = floats(*range(FEATURES))
REQUESTS = {
    "nothing": pb.ScoreRequest(),
    "no model": pb.ScoreRequest(dtype="uint8", images=bytes(FEATURES)),
    "an unknown model": posted(model_sha256="e" * 64),
    "no digest": posted(model_sha256="../x"),
    "an unknown run": posted(run_id="r"),
    "an empty run": posted(run_id=""),
    "no dtype": posted(dtype=""),
    "an unknown dtype": posted(dtype="int8"),
    "no images": posted(b""),
    "half an image": posted(bytes(FEATURES // 2)),
    "an image and a half": posted(bytes(FEATURES + FEATURES // 2)),
    "too many images": posted(bytes(FEATURES * 65_537)),
    "texts": posted(texts=["x"]),
    "texts alone": posted(b"", texts=["x"]),
    "probabilities": posted(with_probabilities=True),
    "floats for a model of bytes": posted(FLOATS, dtype="float32"),
    "floats": posted(FLOATS, model_sha256="b" * 64, dtype="float32"),
    "bytes for a model of floats": posted(model_sha256="b" * 64),
    "no finite floats": posted(floats(*[np.nan] * FEATURES), model_sha256="b" * 64, dtype="float32"),
    "logits that are far apart": posted(bytes([0, 255] * (FEATURES // 2)), model_sha256="c" * 64),
    "an answer that is no number": posted(floats(*[3e38] * FEATURES), model_sha256="d" * 64, dtype="float32"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_whatever_is_posted_gets_the_same_answer_or_error(served: Served, loop: asyncio.Runner, name: str) -> None:
    ours, theirs = loop.run(served.answers(REQUESTS[name].SerializeToString()))
    assert ours == theirs


def varint(value: int) -> bytes:
    return bytes([*([value % 128 + 128] if value > 127 else []), value // 128 if value > 127 else value])


def part(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


IMAGES = st.integers(1, 3).flatmap(lambda count: st.binary(min_size=count * FEATURES, max_size=count * FEATURES))
PARTS = st.one_of(
    st.sampled_from([*DIGESTS, "e" * 64]).map(lambda digest: part(1, digest.encode())),
    st.sampled_from([RUN, "other", ""]).map(lambda run: part(2, run.encode())),
    st.sampled_from(["uint8", "float32", "x", "\xff"]).map(lambda dtype: part(3, dtype.encode("latin-1"))),
    (IMAGES | st.binary(max_size=40)).map(lambda images: part(4, images)),
    st.sampled_from([b"\x28\x00", b"\x28\x01", b"\x28\xff\xff\x03"]),
    st.sampled_from(["", "text"]).map(lambda text: part(6, text.encode())),
    st.binary(max_size=5).map(lambda data: part(9, data)),  # a field that is not known
    st.sampled_from([b"\x78\x05", b"\x0d\x01\x02\x03\x04", b"\x33", b"\x34"]),  # of other types, and groups
    st.binary(max_size=3),
)


@given(st.lists(PARTS, max_size=9), st.booleans())
def test_any_bytes_get_the_same_answer_or_error(
    served: Served, loop: asyncio.Runner, parts: list[bytes], whole: bool
) -> None:
    """Fields in any order, several times and unknown, and bytes that are no message; ``whole`` makes most valid."""
    ends = [part(1, KNOWN.encode()), part(3, b"uint8"), part(4, bytes(range(FEATURES)))] if whole else []
    ours, theirs = loop.run(served.answers(b"".join([*parts, *ends])))
    assert ours == theirs


def test_of_repeated_fields_the_last_one_counts(served: Served, loop: asyncio.Runner) -> None:
    data = b"".join(
        [
            *(part(4, bytes(FEATURES)), part(2, b"other"), part(3, b"float32"), part(9, b"?"), part(1, b"f" * 64)),
            *(part(2, RUN.encode()), part(3, b"uint8"), part(4, bytes(range(FEATURES)))),
        ]
    )
    expected = loop.run(served.answers(posted().SerializeToString()))
    assert loop.run(served.answers(data)) == expected
    assert served.at_once[-1] == expected[0]


def test_a_call_whose_deadline_has_passed_is_not_answered(served: Served, loop: asyncio.Runner) -> None:
    data = posted().SerializeToString()
    ours, theirs = loop.run(served.answers(data, remaining_s=0.0))
    assert ours == theirs
    assert ours[-1] == grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.at_once[-1] is None
    assert isinstance(loop.run(served.answers(data, remaining_s=0.5))[0], bytes)


async def test_a_caller_who_may_not_call_is_refused_before_the_shortcut() -> None:
    def check_of(service: str, method: str) -> Any:
        def check(context: Context) -> None:
            if b"ann" not in context.names:
                raise NotAllowed("CALLER_NOT_ALLOWED", "it may not")

        return check

    served = await serving(check_of=check_of)
    refused = rpc_end(NotAllowed("CALLER_NOT_ALLOWED", "it may not"))
    assert (await served.answers(posted().SerializeToString()))[0] == refused
    assert not served.at_once
    assert isinstance((await served.answers(posted().SerializeToString(), names=(b"ann",)))[0], bytes)
    assert len(served.at_once) == 1
    assert served.counts.by_method()["Score"] == {"OK": 2, "PERMISSION_DENIED": 2}


def rpc_end(error: LabelloopError) -> list[Any]:
    from grpc_status import rpc_status

    status = rpc_status.to_status(to_status(error))
    return [status.details, status.trailing_metadata, status.code]


async def test_answers_are_held_back_while_the_server_goes() -> None:
    drain = Drain()
    served = await serving(drain=drain)
    await drain.settle()
    call = asyncio.create_task(answer(served.with_shortcut, posted().SerializeToString()))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not call.done()
    assert not served.at_once
    drain.release()
    assert isinstance(await call, bytes)


async def test_a_model_that_is_not_in_memory_is_left_to_the_handler() -> None:
    loads = asyncio.Event()

    async def load(digest: str) -> Model:
        await loads.wait()
        return model("uint8")

    models = AsyncCache(load, kept=9)
    service = ScorerService(UNUSED, UNUSED, UNUSED, models, UNUSED, UNUSED, UNUSED, 1, UNUSED)
    assert service.score_at_once(posted(), cast(Any, Context())) is None
    loading = asyncio.create_task(models.get(KNOWN))
    await asyncio.sleep(0)
    assert service.score_at_once(posted(), cast(Any, Context())) is None
    loads.set()
    await loading


async def test_the_kernel_is_made_in_the_thread_for_posted_images_at_the_first_call() -> None:
    made = Model(model("uint8").data, "0" * 64)
    with ThreadPoolExecutor(1) as executor:
        scoring = Scoring(executor)
        first = scoring.score_at_once(posted(), made, KNOWN)
    assert made.row_kernel is not None
    assert scoring.score_at_once(posted(), made, KNOWN) == first
    large = Model(made.data, "0" * 64)
    large.work = 10**9
    with ThreadPoolExecutor(1) as executor:
        assert Scoring(executor).score_at_once(posted(), large, KNOWN) is None
