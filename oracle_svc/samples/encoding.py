"""Encode samples for display to annotators, as PNG, text or .npy. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_CHANNELS = {1, 3, 4}


@dataclass(frozen=True)
class Picture:
    """An encoded sample."""

    media_type: str
    content: bytes

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


def picture_of(sample: NDArray[Any] | str) -> Picture:
    """Encode uint8 pixels ``[h, w]`` or ``[h, w, channels]`` as a PNG, with 1, 3 or 4 channels; others as .npy.

    Texts are encoded in UTF-8, exactly as they are.
    """
    if isinstance(sample, str):
        return Picture("text/plain; charset=utf-8", sample.encode())
    output = BytesIO()
    if sample.dtype == np.uint8 and (sample.ndim == 2 or (sample.ndim == 3 and sample.shape[2] in _CHANNELS)):
        pixels = sample[:, :, 0] if sample.ndim == 3 and sample.shape[2] == 1 else sample
        Image.fromarray(np.ascontiguousarray(pixels)).save(output, "PNG")
        return Picture("image/png", output.getvalue())
    np.save(output, sample, allow_pickle=False)
    return Picture("application/x-npy", output.getvalue())
