"""Compute the filters of scattering features: Morlet wavelets and a binomial blur. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIGMA = 1.1  # pixels, of the Gaussian envelope
_FREQUENCY = 0.675 * np.pi  # radians a pixel, of the wave
_SLANT = 0.5  # width of the envelope across the wave over that along it


def wavelets(orientations: int, side: int) -> NDArray[np.float32]:
    """Compute Morlet wavelets ``[2 * orientations, side, side]``: real parts, followed by imaginary parts.

    Orientations divide half a turn; the other half has the same moduli. Each wavelet is a wave under a Gaussian
    envelope, less as much of the envelope as makes its sum 0 (Bruna and Mallat 2013).
    """
    reach = side // 2
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    found = []
    for turn in np.arange(orientations) * np.pi / orientations:
        along = across * np.cos(turn) + down * np.sin(turn)
        aside = down * np.cos(turn) - across * np.sin(turn)
        envelope = np.exp(-(along**2 + (_SLANT * aside) ** 2) / (2 * _SIGMA**2))
        wave = envelope * np.exp(1j * _FREQUENCY * along)
        found.append((wave - envelope * (wave.sum() / envelope.sum())) / envelope.sum())
    bank = np.stack(found)
    return np.concatenate([bank.real, bank.imag]).astype(np.float32)


def blur() -> NDArray[np.float32]:
    """Return the binomial filter ``[5, 5]``, which is applied before a picture is halved."""
    weights = np.array([1, 4, 6, 4, 1], np.float32) / 16
    return np.asarray(np.outer(weights, weights), np.float32)


def colours(channels: int) -> NDArray[np.float32]:
    """Return orthonormal directions ``[channels, channels]`` of colour: brightness first, then what is left.

    They are those of the discrete cosine transform: for three channels, red to blue and green to both are left.
    """
    place = np.arange(channels)
    rows = np.cos(np.pi / channels * (place + 0.5) * place[:, None])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
