"""Define the artifact formats of pools, labels and evaluation sets. No I/O.

A shard is the raw C-order bytes of its samples, so that it can be memory-mapped directly; texts are encoded by
:func:`~labelloop.artifacts.texts.encode_texts`. The manifest is JSON with sorted keys, and its SHA-256 identifies the
pool. An evaluation set is a safetensors file of ``samples`` and ``labels``, or of encoded ``texts`` and ``labels``, the
labels of a pool are one of ``labels`` alone, and its duplicates one of ``duplicates`` and ``first``.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from labelloop.artifacts.texts import decode_texts, encode_texts
from labelloop.domain.duplicates import Duplicates
from labelloop.domain.limits import TEXT_DTYPE
from labelloop.domain.sample_array import SampleArray
from labelloop.domain.sample_layout import layout_fault
from labelloop.errors import Corrupt
from labelloop.events.v1.events_pb2 import SampleLayout

TILE_SAMPLES = 250  # models score pools in tiles of this size, because a row's sum may depend on it
SHARD_SAMPLES = 60_000
_MANIFEST_BYTES_MAX = 4 * 1024 * 1024  # of more than 20,000 shards; parsers hold Python's lock
_SHARDS_MAX = 50_000
_INDEX_BYTES_MAX = 32 * 1024 * 1024  # 500 bytes for each sample of a shard
_BRACKETS_MAX = 8 * SHARD_SAMPLES  # in names; of two bytes "{}", a parser makes hundreds


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SampleIndex(BaseModel):
    """What a shard's samples are called and what people see of them, in the order of the shard.

    Attributes:
        names: The name of each sample, such as its file; empty if they have none.
        originals: For each sample the digest of the artifact that people see, in a format of its own; empty if they see
            the sample itself.
        files: For each sample the digest of what people see in its place: the file that it was read from, or the sample
            of which it is a vector; empty if they see the sample itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: Annotated[tuple[str, ...], FailFast()] = ()  # else the errors of hostile bytes take gigabytes
    originals: Annotated[tuple[Digest, ...], FailFast()] = ()
    files: Annotated[tuple[Digest, ...], FailFast()] = ()

    def to_bytes(self) -> bytes:
        return _json(self)

    @classmethod
    def from_bytes(cls, data: bytes, sample_count: int) -> SampleIndex:
        """Parse the index of a shard; raise Corrupt if ``data`` is not one of ``sample_count`` samples."""
        _check_size(data, _INDEX_BYTES_MAX, _BRACKETS_MAX, "BAD_INDEX", "index of samples")
        try:
            index = cls.model_validate_json(data)
        except ValidationError as error:
            raise Corrupt("BAD_INDEX", f"this artifact is no index of samples: {error.errors()[0]['msg']}") from error
        if {len(index.names), len(index.originals), len(index.files)} - {0, sample_count}:
            raise Corrupt("BAD_INDEX", f"this artifact is no index of {sample_count} samples")
        return index


class Shard(BaseModel):
    """Consecutive samples of a pool.

    Attributes:
        index: Digest of the shard's :class:`SampleIndex`; None if samples have neither names nor originals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: Digest
    sample_count: int = Field(gt=0)
    index: Digest | None = None


class PoolManifest(BaseModel):
    """The shards of a pool: each holds consecutive sample ids, all but the last a multiple of ``TILE_SAMPLES``.

    Attributes:
        dtype: Type of a sample's values; "utf8" for texts, whose ``shape`` is ``(1,)``.
        layout: Digest of the pool's ``SampleLayout`` message; None in pools of earlier releases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    dtype: Literal["uint8", "float32", "utf8"]
    shape: Annotated[tuple[int, ...], FailFast()]
    shards: Annotated[tuple[Shard, ...], FailFast()] = Field(min_length=1)
    layout: Digest | None = None

    @property
    def sample_count(self) -> int:
        return sum(shard.sample_count for shard in self.shards)

    def to_bytes(self) -> bytes:
        return _json(self)

    @property
    def artifacts(self) -> tuple[str, ...]:
        """Digests of the artifacts that the manifest names itself, without those that indexes name."""
        named = [digest for shard in self.shards for digest in (shard.sha256, shard.index)]
        return tuple(digest for digest in (*named, self.layout) if digest)

    @classmethod
    def from_bytes(cls, data: bytes) -> PoolManifest:
        """Parse a manifest; raise Corrupt if ``data`` is not one."""
        _check_size(data, _MANIFEST_BYTES_MAX, _SHARDS_MAX, "BAD_MANIFEST", "pool manifest")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise Corrupt("BAD_MANIFEST", f"this artifact is no pool manifest: {error.errors()[0]['msg']}") from error


def _check_size(data: bytes, bytes_max: int, brackets_max: int, reason: str, name: str) -> None:
    """Raise Corrupt if ``data`` is more JSON than a parser should be given."""
    if len(data) > bytes_max:
        raise Corrupt(reason, f"this artifact is no {name}: it has {len(data):,} bytes, more than {bytes_max:,}")
    if (brackets := data.count(b"{") + data.count(b"[")) > brackets_max:
        raise Corrupt(reason, f"this artifact is no {name}: it holds {brackets:,} brackets, more than {brackets_max:,}")


def encode_shard(samples: NDArray[Any]) -> bytes:
    """Return the bytes of a shard of these samples: ``[n, *shape]``, or ``[n]`` of str."""
    if samples.dtype == object:
        return encode_texts(samples)
    return np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).tobytes()


def decode_shard(data: NDArray[np.uint8], manifest: PoolManifest, shard: Shard) -> NDArray[Any]:
    """Return a shard's samples: a view of its bytes as ``[n, *shape]``, or texts ``[n]`` of str.

    Raises Corrupt if the bytes hold others.
    """
    if manifest.dtype == TEXT_DTYPE:
        texts = decode_texts(data.data)
        if len(texts) != shard.sample_count:
            message = f"shard {shard.sha256} holds {len(texts)} texts, not {shard.sample_count}"
            raise Corrupt("BAD_SHARD", message, artifact=shard.sha256)
        return texts
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    if len(data) != shard.sample_count * int(np.prod(manifest.shape)) * dtype.itemsize:
        message = f"shard {shard.sha256} is not {shard.sample_count} samples of shape {manifest.shape}"
        raise Corrupt("BAD_SHARD", message, artifact=shard.sha256)
    return data.view(dtype).reshape(shard.sample_count, *manifest.shape)


def decode_layout(data: bytes, shape: tuple[int, ...]) -> SampleLayout:
    """Parse the layout of samples of ``shape``. Raises Corrupt if it is none, or not one of such samples."""
    try:
        layout = SampleLayout.FromString(data)
    except DecodeError as error:
        raise Corrupt("BAD_LAYOUT", f"this artifact is no layout of samples: {error}") from error
    if fault := layout_fault(layout, shape):
        raise Corrupt("BAD_LAYOUT", f"this artifact is no layout of the pool's samples: {fault}")
    return layout


def sample_digest(sample: Any, file: str = "") -> bytes:
    """Return the SHA-256 of a sample: of its values in little-endian C order, or of its text in UTF-8.

    The digest of the ``file`` that people see of it is included, because different files may have equal values.
    """
    if isinstance(sample, str):
        data = sample.encode(errors="surrogatepass")
    else:
        values = np.asarray(sample)
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return sha256(file.encode() + data).digest()


def _json(model: BaseModel) -> bytes:
    """Encode a model so that equal ones have equal bytes; fields without a value are left out."""
    return json.dumps(model.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":")).encode()


def encode_labels(labels: NDArray[np.int32]) -> bytes:
    return save({"labels": np.ascontiguousarray(labels)})


def decode_labels(data: bytes) -> NDArray[np.int32]:
    """Return labels ``[n]``."""
    labels: NDArray[np.int32] = load(data)["labels"]
    return labels


def encode_duplicates(duplicates: Duplicates) -> bytes:
    arrays = {"duplicates": duplicates.ids, "first": duplicates.first}
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def decode_duplicates(data: bytes, sample_count: int) -> Duplicates:
    """Return the duplicates of a pool of ``sample_count`` samples. Raises Corrupt if ``data`` holds none of such."""
    try:
        arrays = load(data)
        found = Duplicates(arrays["duplicates"], arrays["first"])
    except (SafetensorError, KeyError) as error:
        raise Corrupt("BAD_DUPLICATES", f"this artifact holds no duplicates: {error}") from error
    if not found.are_sound(sample_count):
        raise Corrupt("BAD_DUPLICATES", f"this artifact holds no duplicates of a pool of {sample_count} samples")
    return found


def encode_evaluation(samples: NDArray[Any], labels: NDArray[np.int32]) -> bytes:
    """Encode samples ``[n, *shape]``, or texts ``[n]`` of str, with labels ``[n]``."""
    if samples.dtype == object:
        texts = np.frombuffer(encode_texts(samples), np.uint8)
        return save({"texts": texts, "labels": np.ascontiguousarray(labels)})
    return save({"samples": np.ascontiguousarray(samples), "labels": np.ascontiguousarray(labels)})


def decode_evaluation(data: bytes) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return samples ``[n, *shape]``, or texts ``[n]`` of str, and labels ``[n]``."""
    arrays = load(data)
    samples = decode_texts(arrays["texts"].tobytes()) if "texts" in arrays else arrays["samples"]
    return samples, arrays["labels"]


def dtype_name(samples: SampleArray) -> str:
    """Return the name of the type of ``samples`` in manifests."""
    return TEXT_DTYPE if samples.dtype == object else samples.dtype.name


def sample_shape(samples: SampleArray) -> tuple[int, ...]:
    """Return the shape of one of ``samples``; ``(1,)`` for texts."""
    return (1,) if samples.dtype == object else samples.shape[1:]
