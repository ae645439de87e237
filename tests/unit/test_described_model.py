"""An exported model explains itself, and answers as the recorded one does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from labelloop.events.v1.events_pb2 import ModelTrained, PoolPublished, SampleKind, SampleLayout
from PIL import Image

from trainer_svc.model.described_model import described
from trainer_svc.model.onnx_export import joined, to_onnx

CLASSES = ["cat", "Dåg"]


def pool(shape: list[int], dtype: str) -> PoolPublished:
    layout = SampleLayout(kind=SampleKind.SAMPLE_KIND_IMAGE, height=shape[0])
    return PoolPublished(
        pool_sha256="b" * 64, shape=shape, dtype=dtype, classes=CLASSES, description="9 pictures", layout=layout
    )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [[12], [3, 4], [3, 2, 2]])
def test_a_described_model_takes_samples_in_their_own_shape(shape: list[int], dtype: str) -> None:
    chance = np.random.default_rng(0)
    model = to_onnx(chance.normal(size=(2, 13)).astype(np.float32), dtype)
    samples = chance.integers(0, 256, (7, *shape)).astype(dtype)
    made = described(model, "pets", 3, ModelTrained(), pool(shape, dtype))
    [expected] = onnxruntime.InferenceSession(model).run(None, {"samples": samples.reshape(7, -1)})
    session = onnxruntime.InferenceSession(made)
    [found] = session.run(None, {"samples": samples})
    assert np.array_equal(found, expected)
    assert session.get_inputs()[0].shape == ["n", *shape]
    assert session.run(None, {"samples": samples[:0]})[0].shape == (0, 2)


def test_a_model_on_a_feature_graph_is_described_too() -> None:
    chance = np.random.default_rng(1)
    features = to_onnx(chance.normal(size=(5, 13)).astype(np.float32), "uint8")
    model = joined(features, to_onnx(chance.normal(size=(2, 6)).astype(np.float32), "float32"))
    samples = chance.integers(0, 256, (4, 3, 4)).astype(np.uint8)
    made = described(model, "pets", 3, ModelTrained(), pool([3, 4], "uint8"))
    [expected] = onnxruntime.InferenceSession(model).run(None, {"samples": samples.reshape(4, -1)})
    [found] = onnxruntime.InferenceSession(made).run(None, {"samples": samples})
    assert np.array_equal(found, expected)


def test_metadata_says_what_the_model_is() -> None:
    model = to_onnx(np.zeros((2, 13), np.float32), "uint8")
    trained = ModelTrained(labels=40, auto_labels=5, temperature=1.25, model_sha256="a" * 64)
    made = described(model, "pets", 3, trained, pool([3, 4], "uint8"))
    meta = onnxruntime.InferenceSession(made).get_modelmeta()
    said = meta.custom_metadata_map
    assert json.loads(said["classes"]) == CLASSES
    assert json.loads(said["shape"]) == [3, 4]
    assert json.loads(said["layout"])["height"] == 3
    expected = {
        "run": "pets",
        "round": "3",
        "labels": "40",
        "auto_labels": "5",
        "dtype": "uint8",
        "temperature": "1.25",
    }
    assert expected.items() <= said.items()
    assert (said["model_sha256"], said["pool_sha256"]) == ("a" * 64, "b" * 64)
    assert meta.description == "9 pictures. Probabilities of: cat, Dåg."


def test_the_readme_uses_a_model_as_it_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = (Path(__file__).parents[2] / "README.md").read_text().split("```")
    [code] = [block.removeprefix("python") for block in blocks if "get_modelmeta" in block]
    chance = np.random.default_rng(2)
    model = to_onnx(chance.normal(size=(2, 5 * 7 * 3 + 1)).astype(np.float32), "uint8")
    (tmp_path / "model.onnx").write_bytes(described(model, "pets", 3, ModelTrained(), pool([5, 7, 3], "uint8")))
    (tmp_path / "photos").mkdir()
    Image.fromarray(chance.integers(0, 256, (30, 20, 3)).astype(np.uint8)).save(tmp_path / "photos" / "one.jpg")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.split()[0] in CLASSES


def test_the_same_model_is_described_by_the_same_bytes() -> None:
    model = to_onnx(np.ones((2, 13), np.float32), "uint8")
    one, other = (described(model, "pets", 3, ModelTrained(), pool([3, 4], "uint8")) for _ in range(2))
    assert one == other
