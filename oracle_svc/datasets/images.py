"""Images of one size as one array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from labelloop.wire.errors import Corrupt, InvalidInput
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .reading import check_size


def read_images(paths: list[Path], field: str) -> NDArray[np.uint8]:
    """The images as [N, H, W] when all are greyscale, otherwise [N, H, W, 3]; N >= 1.

    Greyscale is what a file says of itself, not what its colours are (WebP never does). Transparency is dropped; of an
    animation the first frame counts. Raises InvalidInput naming the first image of another size or of more than 8 bits
    a channel, Corrupt naming the first that cannot be read, LimitExceeded for too many.
    """
    images = [_pixels(paths[0], field)]
    check_size(images[0].nbytes * len(paths), str(paths[0].parent))  # before all are read: they are of one size
    for path in paths[1:]:
        image = _pixels(path, field)
        _check_size(image, images[0], path, paths[0], field)
        images.append(image)
    if all(image.ndim == 2 for image in images):
        return np.stack(images)
    return np.stack([image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images])


def _check_size(image: NDArray[Any], first: NDArray[Any], path: Path, first_path: Path, field: str) -> None:
    if image.shape[:2] == first.shape[:2]:
        return
    size, first_size = (f"{shape[1]}x{shape[0]}" for shape in (image.shape, first.shape))
    raise InvalidInput(
        "IMAGE_SIZE",
        f"{path} is {size} pixels, but {first_path} is {first_size}: scale all images to one size",
        field=field,
        path=path,
        size=size,
        first_path=first_path,
        first_size=first_size,
    )


def _pixels(path: Path, field: str) -> NDArray[np.uint8]:
    """[H, W] for a greyscale image, [H, W, 3] for any other, the way up that a viewer shows it."""
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.asarray(_grey_or_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # decoders raise nearly anything when the bytes are broken
        raise Corrupt(
            "IMAGE_DAMAGED",
            f"{path} cannot be read as an image ({error}): replace or remove it",
            path=path,
            error=error,
        ) from error
    if mode[0] in "IF":  # 16 and 32 bits: the conversion has clipped them without a word
        raise InvalidInput(
            "IMAGE_DEPTH",
            f"{path} has more than 8 bits a channel (mode {mode}): convert it to 8, or save a float32 .npy",
            field=field,
            path=path,
            mode=mode,
        )
    return pixels


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    if image.mode == "P":  # by way of RGBA, or PIL warns about palettes with transparency
        image = image.convert("RGBA")
    return image.convert("RGB")
