"""Use each part of SciPy, scikit-learn and ONNX that the scorer does, in its image: ``python computing.py``."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from scorer_svc.features.spectral_embedding import learn_neighbourhood
from scorer_svc.features.texts import learn_texts
from scorer_svc.numerics.clustering import Plan, cluster
from scorer_svc.numerics.pca import half_whitening

samples = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
cluster(samples, 5, 0, Plan(2, 50))
print("clusters")
half_whitening(samples, 0)
print("directions")
graph = learn_texts([f"words {number % 7} of text {number % 5}" for number in range(60)], 0)
print("texts")
assert learn_neighbourhood(samples, 0, 20.0) is not None
print("spectrum")
onnx.shape_inference.infer_shapes(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])))
[features] = onnxruntime.InferenceSession(graph).run(None, {"samples": np.array(["words 1 of text 2"], object)})
assert np.isfinite(features).all()
print("graph")
