"""Describe a pool in words. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from labelloop.domain.class_names import printable, shortened
from labelloop.domain.limits import LEARNED, PATCH_FEATURES, SCATTERING_FEATURES
from labelloop.events.v1.events_pb2 import FeatureKind, SampleKind, SampleLayout
from labelloop.oracle.v1.oracle_pb2 import DescribeDatasetResponse

from labelloop_cli.run_options import word

_CLASSES_SHOWN = 20
_FEATURE_BYTES = 4  # float32
_NOT_WAITED_FOR_S = 1.0
_KINDS = {
    SampleKind.SAMPLE_KIND_IMAGE: "pictures",
    SampleKind.SAMPLE_KIND_ROW: "rows",
    SampleKind.SAMPLE_KIND_TEXT: "texts",
    SampleKind.SAMPLE_KIND_VECTOR: "vectors",
}
_WIDTHS = {
    FeatureKind.FEATURE_KIND_PATCHES: PATCH_FEATURES,
    FeatureKind.FEATURE_KIND_SCATTERING: SCATTERING_FEATURES,
}


def facts(pool: DescribeDatasetResponse, features: FeatureKind.ValueType) -> Iterator[tuple[str, str]]:
    """Yield what a pool holds as pairs of a title and a text."""
    yield "pool", pool.description
    if pool.stand_in:
        yield "stand-in", "this is not the dataset that was asked for"
    yield "samples", f"{pool.sample_count:,}, {_bytes(pool.pool_bytes)}"
    yield "layout", layout(pool)
    if pool.HasField("shown_layout"):
        yield "people see", kind(pool.shown_layout)
    yield "classes", classes(pool)
    yield "labels", labels(pool)
    yield "evaluation", f"{pool.evaluation_count:,} samples" if pool.evaluation_count else "none: controls are used"
    yield "names", "samples have names" if pool.has_names else "none: samples go by their place, from 0"
    if pool.duplicate_count:
        yield "duplicates", f"{pool.duplicate_count:,} samples equal an earlier one"
    yield "features", word(FeatureKind.Name(features))
    yield "memory", memory(pool, features)
    if pool.read_seconds:
        yield "time", time(pool)


def brief(pool: DescribeDatasetResponse, features: FeatureKind.ValueType) -> str:
    """Describe a pool in one line."""
    seen = f" of {kind(pool.shown_layout)}, which people see" if pool.HasField("shown_layout") else ""
    parts = [f"{pool.sample_count:,} samples: {layout(pool)}{seen}", f"classes {classes(pool)}"]
    if pool.duplicate_count:
        parts.append(f"{pool.duplicate_count:,} duplicates")
    return "; ".join([*parts, f"features {word(FeatureKind.Name(features))}"])


def layout(pool: DescribeDatasetResponse) -> str:
    """Describe one sample of a pool."""
    what = pool.layout
    if what.kind == SampleKind.SAMPLE_KIND_IMAGE:
        channels = f"{what.channels} channel{'s' if what.channels > 1 else ''}{' first' if what.channels_first else ''}"
        size = f"{what.width} x {what.height} pixels"
        return f"pictures of {size}, {channels}, {pool.dtype}, values 0 to {what.full_scale:g}"
    if what.kind == SampleKind.SAMPLE_KIND_ROW:
        named = sum(1 for column in what.columns if column.categories)
        return f"rows of {len(what.columns)} columns, {len(what.columns) - named} of numbers and {named} of categories"
    if what.kind == SampleKind.SAMPLE_KIND_TEXT:
        return "texts"
    if what.kind == SampleKind.SAMPLE_KIND_VECTOR:
        return f"vectors of {math.prod(pool.shape)} values, {pool.dtype}"
    return f"arrays of {' x '.join(map(str, pool.shape))} values, {pool.dtype}"


def kind(layout: SampleLayout) -> str:
    """Name in one word what samples of a layout are."""
    return _KINDS.get(layout.kind, "arrays")


def labels(pool: DescribeDatasetResponse) -> str:
    """Say how many labels are known, and what becomes of the others."""
    if pool.partly_known_count:
        known = f"{pool.partly_known_count:,} of {pool.sample_count:,} are known and cost nothing"
        return f"{known}; people are asked for the others (--labels-from queue)"
    return "the dataset has them" if pool.has_labels else "unknown: people are asked (--labels-from queue)"


def classes(pool: DescribeDatasetResponse) -> str:
    """List the classes of a pool, with the number of samples of each where that is known."""
    if not pool.classes:
        return "unknown: name them with --classes"
    counts = pool.class_counts or [None] * len(pool.classes)
    each = [
        printable(shortened(name)) + ("" if count is None else f" {count:,}")
        for name, count in zip(pool.classes, counts, strict=True)
    ]
    more = len(each) - _CLASSES_SHOWN
    return f"{len(each)}: {', '.join(each[:_CLASSES_SHOWN])}" + (f" and {more} more" if more > 0 else "")


def memory(pool: DescribeDatasetResponse, features: FeatureKind.ValueType) -> str:
    """Say how much memory a run over the pool takes, as far as that is known before."""
    oracle, scorers = _bytes(oracle_bytes(pool)), _bytes(scorer_bytes(pool, features))
    learned = features in LEARNED and features not in _WIDTHS
    return f"about {oracle} in the oracle beside its program; the scorers map files of {scorers}" + (
        " and those of the features" * learned
    )


def time(pool: DescribeDatasetResponse) -> str:
    """Say how long the oracle took to read a pool, and how long it may take to publish it."""
    if pool.read_seconds < _NOT_WAITED_FOR_S:
        return "the oracle read the pool in less than a second; what learning features takes is not known before"
    pace = _bytes(int(pool.pool_bytes / pool.read_seconds))
    took = f"{pool.read_seconds:,.0f} s"
    return (
        f"the oracle read and checked the pool in {took}, {pace} a second; at that pace, publishing it takes as long "
        "again, or longer if the artifact store is slower; what scorers take to fetch it and to learn features is not "
        "known before"
    )


def oracle_bytes(pool: DescribeDatasetResponse) -> int:
    """Return the bytes of memory that the oracle takes for a pool; all of it in an oracle of an earlier release."""
    return int(pool.oracle_bytes or pool.pool_bytes)


def scorer_bytes(pool: DescribeDatasetResponse, features: FeatureKind.ValueType) -> int:
    """Return the size of what scorers map: the pool, and its features where their number is known."""
    width = _WIDTHS.get(features, 0)
    return int(pool.pool_bytes + pool.sample_count * width * _FEATURE_BYTES)


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
