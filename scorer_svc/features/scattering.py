"""Learn features of pictures without labels: scattering, whitened by what changed copies differ in, and coordinates.

Models see three groups of columns. The first are the principal components of the scattering
(:mod:`scorer_svc.features.scattering_onnx`), less of those directions in which a picture differs from copies that are
moved, turned and bent a little (:mod:`scorer_svc.features.scattering_maps`). The others locate the picture among those
of the pool (:mod:`scorer_svc.features.spectral_embedding`): among those that look alike as they are, and among those
that do whether one is moved, turned or bent, or not. The last group helps where the classes are not changed by that, as
those of digits, and misleads where they are. The fit decides which by cross-validation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import structlog
from labelloop.domain.abandonment import wanted
from labelloop.domain.limits import OPTIONAL_COLUMNS
from labelloop.events.v1.events_pb2 import SampleLayout
from numpy.typing import NDArray
from onnx import helper
from onnxruntime import InferenceSession

from scorer_svc.features.neighbours_onnx import located
from scorer_svc.features.onnx_chain import OUTPUT, Chain, graph_bytes, nodes_of
from scorer_svc.features.picture_input import BYTES, Given, averaged, pictures_of
from scorer_svc.features.scattering_copies import Pictures, changed
from scorer_svc.features.scattering_maps import LENGTH, Maps, maps, principal
from scorer_svc.features.scattering_onnx import Pyramid, scattering_nodes
from scorer_svc.features.spectral_embedding import (
    LANDMARKS_MAX,
    LANDMARKS_MIN,
    Neighbourhood,
    Wanted,
    neighbourhood_of,
)
from scorer_svc.models.ort_session import open_session
from scorer_svc.numerics.blas_threads import one_thread
from scorer_svc.numerics.pca import Values

_SOUGHT = Wanted(coordinates=60, neighbours=12, weighted=True)
_COPIES = 4_000  # of all pictures together, but two of each at least
_COPIES_OF_EACH_MAX = 20
_AT_ONCE = 25

log = structlog.get_logger()


def learn_scattering(samples: NDArray[Any], seed: int, layout: SampleLayout | None = None) -> bytes:
    """Learn what to make of pictures; return the ONNX bytes of the graph from flat samples to float32 features.

    The bytes are the same for the same samples and seed on one type of processor, whatever the number of cores.

    Args:
        samples: ``[n, *shape]``, uint8 or float32.
        seed: determines all random draws.
        layout: how samples are read as pictures; None to take bytes ``[n, height, width]`` and ``[n, height, width,
            channels]``.

    Raises:
        ValueError: the samples are not pictures, are too small, or are all alike.
    """
    images, layout = pictures_of(samples, layout)
    rng = np.random.default_rng(seed)
    drawn = images[np.sort(rng.choice(len(images), min(LANDMARKS_MAX, len(images)), replace=False))]
    pyramid = Pyramid(images.shape[1:])
    seen = np.asarray(averaged(drawn, *pyramid.pooling), np.float32)
    around = _around(seen)
    with one_thread():
        scattering = _Scattering(seen.shape[1:], around)
        raw = scattering.of(seen)
        found = principal(raw, seed)
        components = np.asarray((raw - found.mean) @ found.onto, np.float32)
        differences = np.concatenate(
            [
                (scattering.of(changed(seen, rng)) - found.mean) @ found.onto - components
                for _ in wanted(range(_copies(len(seen))))
            ]
        )
        mapped = maps(components, differences)
        onto_values = np.asarray(found.onto.astype(np.float64) @ mapped.values, np.float32)
        values = np.asarray((raw - found.mean) @ onto_values, np.float32)
        groups = _neighbourhoods(values, mapped, seed) if len(values) >= LANDMARKS_MIN else {}
    given = Given(samples.dtype.name, layout.channels_first, layout.full_scale)
    return _graph(pyramid, around, given, found.mean, onto_values, groups)


def _copies(count: int) -> int:
    return min(_COPIES_OF_EACH_MAX, max(2, -(-_COPIES // count)))


def _around(pictures: Pictures) -> NDArray[np.float32]:
    """Return the mean of the outermost pixels, ``[channels]``."""
    edges = [pictures[:, place] for place in (0, -1)] + [pictures[:, :, place] for place in (0, -1)]
    return np.asarray(np.concatenate(edges, axis=1).mean(axis=(0, 1), dtype=np.float64), np.float32)


class _Scattering:
    """Computes the raw features of averaged pictures."""

    def __init__(self, shape: tuple[int, ...], around: NDArray[np.float32]) -> None:
        self._pyramid = Pyramid(shape)
        nodes, weights = scattering_nodes(self._pyramid, around, replace(BYTES, dtype="float32"), OUTPUT)
        size = int(np.prod(shape))
        data = graph_bytes("scattering", nodes, weights, "float32", size, self._pyramid.feature_count)
        self._session: InferenceSession = open_session(data)

    def of(self, pictures: Pictures) -> Values:
        flat = pictures.reshape(len(pictures), -1)
        [fed] = self._session.get_inputs()
        found = np.empty((len(flat), self._pyramid.feature_count), np.float32)
        for start in wanted(range(0, len(flat), _AT_ONCE)):
            some = slice(start, start + _AT_ONCE)
            [found[some]] = self._session.run(None, {fed.name: flat[some]})
        return found


def _neighbourhoods(values: Values, mapped: Maps, seed: int) -> dict[str, Neighbourhood]:
    """Learn coordinates among plain and among invariant neighbours from what models see; without those not defined."""
    none, found = np.zeros(values.shape[1], np.float32), {}
    for name, mapping in (("plain", mapped.plain), ("invariant", mapped.invariant)):
        onto = np.linalg.solve(mapped.values, mapping).astype(np.float32)
        among = neighbourhood_of(values @ onto, none, onto, seed, LENGTH, _SOUGHT)
        defined = among.defined if among else 0
        if defined < _SOUGHT.coordinates:
            counts = {"coordinates": defined, "coordinates_max": _SOUGHT.coordinates, "images": len(values)}
            log.info("fewer_features_than_requested", neighbours=name, **counts)
        if among:
            found[name] = replace(among, coordinates=np.ascontiguousarray(among.coordinates[:, :defined]))
    return found


def _graph(
    pyramid: Pyramid,
    around: NDArray[np.float32],
    given: Given,
    mean: Values,
    onto_values: Values,
    groups: dict[str, Neighbourhood],
) -> bytes:
    nodes, weights = scattering_nodes(pyramid, around, given, "raw")
    values = "whitened" if groups else OUTPUT
    steps: Chain = [("Sub", ["raw", "mean"], "centred", {}), ("MatMul", ["centred", "onto_values"], values, {})]
    nodes += nodes_of(steps)
    weights |= {"mean": mean, "onto_values": onto_values}
    parts, widths = [values], [onto_values.shape[1]]
    for name, among in groups.items():
        located_steps, numbers = located(among, values, name, f"{name}_")
        nodes += located_steps
        weights |= numbers
        parts.append(name)
        widths.append(among.defined)
    if groups:
        nodes.append(helper.make_node("Concat", parts, [OUTPUT], axis=1))
    notes = {OPTIONAL_COLUMNS: str(widths[-1])} if "invariant" in groups else {}
    size = int(np.prod(pyramid.shape))
    return graph_bytes("scattering_features", nodes, weights, given.dtype, size, sum(widths), notes)
