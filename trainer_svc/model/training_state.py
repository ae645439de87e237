"""Serialise the training state that a fit carries over to the next, as safetensors. Pure functions."""

from __future__ import annotations

import torch
from safetensors.torch import load, save

from trainer_svc.model.adam_softmax import AdamState


def to_bytes(state: AdamState) -> bytes:
    """Serialise ``state``; the same state gives the same bytes."""
    return save(
        {
            "weights": state.weights.contiguous(),
            "first_moment": state.first_moment.contiguous(),
            "second_moment": state.second_moment.contiguous(),
            "step": torch.tensor(state.step),
        }
    )


def from_bytes(data: bytes) -> AdamState:
    tensors = load(data)
    return AdamState(tensors["weights"], tensors["first_moment"], tensors["second_moment"], int(tensors["step"].item()))
