"""Find samples that are nearly equal: pictures by their gradients, texts by their words. Pure functions.

Time grows with the number of samples, and memory by at most 100 bytes for each; what is found is a lower bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from unicodedata import normalize

import numpy as np
from labelloop.domain.abandonment import wanted
from labelloop.domain.sample_array import SampleArray
from labelloop.domain.sample_layout import as_pictures
from labelloop.events.v1.events_pb2 import SampleKind, SampleLayout
from numpy.typing import NDArray

Pairs = NDArray[np.int64]  # [n, 2]: a sample and an earlier one

COMPARED = (SampleKind.SAMPLE_KIND_IMAGE, SampleKind.SAMPLE_KIND_TEXT)

_SIDE = 9  # cells of a thumbnail, whose 8 x 8 differences are compared
_BITS_APART_MAX = 6  # of 144
_FINE_SIDE = 16  # cells of the thumbnails with which that is checked
_LEVELS_APART_MAX = 20.0  # of 255, in any of their cells: other handwriting differs by more, another quality by less
_SPREAD_MIN = 8.0  # levels: the standard deviation of a thumbnail below which a picture is too plain to compare
_BYTES_AT_ONCE = 16 * 1024 * 1024
_PAIRS_CHECKED_MAX = 20_000
_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Seen:
    """What people see of samples, ``samples`` as :class:`Dataset` has them, and what one of them is."""

    samples: SampleArray
    layout: SampleLayout | None


def near_duplicates(seen: Seen, distinct: NDArray[np.bool_]) -> Pairs:
    """Return samples with an earlier sample that each nearly equals, ascending; none for vectors and tables.

    Pictures are nearly equal if their brightness rises and falls in the same places and is nearly the same: copies in
    another quality or size. Texts are if they differ only in case, spaces and punctuation.

    Args:
        seen: The samples.
        distinct: Which of them to look at ``[n]``: all but those that equal an earlier one.
    """
    if isinstance(seen.samples, np.ndarray) and seen.samples.dtype == object:
        return _of_texts(seen.samples, distinct)
    if seen.layout is None or seen.layout.kind != SampleKind.SAMPLE_KIND_IMAGE:
        return _none()
    return _of_pictures(seen.samples, seen.layout, distinct)


def _of_texts(texts: NDArray[Any], distinct: NDArray[np.bool_]) -> Pairs:
    keys = np.zeros(len(texts), np.uint64)  # 0 for texts without any letter or digit
    for place in np.flatnonzero(distinct).tolist():
        words = _SEPARATORS.sub(" ", normalize("NFKC", texts[place]).casefold()).strip()
        if words:
            digest = blake2b(words.encode(errors="surrogatepass"), digest_size=8).digest()
            keys[place] = max(1, int.from_bytes(digest, "little"))
    places = np.flatnonzero(keys)
    _, first, group = np.unique(keys[places], return_index=True, return_inverse=True)
    earlier = places[first[group]]
    pairs: Pairs = np.stack([places, earlier], axis=1)[places != earlier]
    return pairs


def _of_pictures(samples: SampleArray, layout: SampleLayout, distinct: NDArray[np.bool_]) -> Pairs:
    places = np.flatnonzero(distinct)
    hashes = np.zeros((len(places), 3), np.uint64)
    plain = np.zeros(len(places), bool)
    for part in _parts(places, samples):
        thumbnails = _thumbnails(samples[places[part]], layout, _SIDE)
        hashes[part], plain[part] = _hashes(thumbnails), thumbnails.std(axis=(1, 2)) < _SPREAD_MIN
    places, hashes = places[~plain], hashes[~plain]
    pairs = _alike(hashes)[:_PAIRS_CHECKED_MAX]
    checked = [_are_alike(samples, layout, places[pairs[part]]) for part in _parts(pairs, samples, 2)]
    found = places[pairs[np.concatenate([np.zeros(0, bool), *checked])]]
    _, first = np.unique(found[:, 0], return_index=True)
    earliest: Pairs = found[first]
    return earliest


def _parts(rows: NDArray[Any], samples: SampleArray, samples_each: int = 1) -> Iterator[slice]:
    at_once = max(1, _BYTES_AT_ONCE // max(1, samples.nbytes // max(1, len(samples)) * samples_each))
    return (slice(start, start + at_once) for start in wanted(range(0, len(rows), at_once)))


def _thumbnails(samples: NDArray[Any], layout: SampleLayout, side: int) -> NDArray[np.float32]:
    """Return the mean brightness of cells ``[n, side, side]`` of pictures, 0 to 255."""
    pictures = as_pictures(samples, layout)
    colours = pictures[..., :3] if layout.channels >= 3 else pictures[..., :1]
    down, across = (_cells(size, side) for size in (layout.height, layout.width))
    grey = colours.mean(axis=-1, dtype=np.float32) if colours.shape[-1] > 1 else colours[..., 0].astype(np.float32)
    rows = (grey.reshape(-1, layout.width) @ across.T).reshape(len(grey), layout.height, side)
    columns = rows.transpose(0, 2, 1).reshape(-1, layout.height) @ down.T
    return np.asarray(columns.reshape(len(grey), side, side).transpose(0, 2, 1), np.float32)


def _cells(size: int, side: int) -> NDArray[np.float32]:
    """Return the weights ``[side, size]`` with which pixels are part of each of ``side`` cells of equal size."""
    edges = np.linspace(0, size, side + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _hashes(thumbnails: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return for each thumbnail which cells are brighter than the next one, across and down, as bits ``[n, 3]``."""
    across = thumbnails[:, :, 1:] > thumbnails[:, :, :-1] + 1
    down = thumbnails[:, 1:, :] > thumbnails[:, :-1, :] + 1
    bits = np.concatenate([across.reshape(len(across), -1), down.reshape(len(down), -1)], axis=1)
    padded = np.zeros((len(bits), 192), bool)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=1).view(np.uint64)


def _alike(hashes: NDArray[np.uint64]) -> Pairs:
    """Return pairs of hashes that differ in few bits, each once, the later one first.

    Hashes are sorted by each of their groups of bits, so that hashes that share a group come to lie side by side.
    """
    groups, found = hashes.view(np.uint16), []
    for group in range(groups.shape[1]):
        order = np.lexsort((*hashes.T, groups[:, group]))
        one, other = order[:-1], order[1:]
        near = np.bitwise_count(hashes[one] ^ hashes[other]).sum(axis=1) <= _BITS_APART_MAX
        found.append(np.stack([np.maximum(one, other), np.minimum(one, other)], axis=1)[near])
    return np.unique(np.concatenate([_none(), *found]), axis=0)


def _are_alike(samples: SampleArray, layout: SampleLayout, pairs: Pairs) -> NDArray[np.bool_]:
    """Return for each pair whether their thumbnails are of nearly the same brightness throughout."""
    one, other = (_thumbnails(samples[pairs[:, which]], layout, _FINE_SIDE) for which in (0, 1))
    return np.asarray(np.abs(one - other).max(axis=(1, 2)) <= _LEVELS_APART_MAX)


def _none() -> Pairs:
    return np.zeros((0, 2), np.int64)
