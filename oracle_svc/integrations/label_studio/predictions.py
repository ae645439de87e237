"""Convert model predictions to Label Studio's format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oracle_svc.integrations.label_studio.labeling_config import Control

_MODEL_VERSION = "labelloop"


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for a sample.

    Attributes:
        confidence: In [0, 1].
        model: SHA-256 of the model.
    """

    class_name: str
    confidence: float
    model: str


def as_prediction(prediction: Prediction, control: Control) -> dict[str, Any]:
    """Return the prediction as Label Studio's API takes it."""
    result = {
        "from_name": control.name,
        "to_name": control.image,
        "type": "choices",
        "value": {"choices": [prediction.class_name]},
    }
    return {"model_version": prediction.model or _MODEL_VERSION, "score": prediction.confidence, "result": [result]}
