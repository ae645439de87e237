"""Read equally sized images into one array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from labelloop.errors import Corrupt, InvalidInput
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .reading import check_size


def read_images(paths: list[Path], field: str) -> NDArray[np.uint8]:
    """Read the images as [N, H, W] if all are greyscale, otherwise as [N, H, W, 3]; N >= 1.

    Whether an image is greyscale is decided by its file's declared mode, not by its colours (WebP never declares it).
    Transparency is dropped, and only the first frame of an animation is read.

    Raises:
        InvalidInput: An image differs in size from the first, or has more than 8 bits per channel.
        Corrupt: An image cannot be read.
        LimitExceeded: The images together take more than 4 GiB.
    """
    images = [_pixels(paths[0], field)]
    check_size(images[0].nbytes * len(paths), str(paths[0].parent))  # before the rest is read: all have the same size
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
    """Read a greyscale image as [H, W], any other as [H, W, 3], oriented as its EXIF data says."""
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.asarray(_grey_or_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # decoders raise almost any exception for broken bytes
        raise Corrupt(
            "IMAGE_DAMAGED",
            f"{path} cannot be read as an image ({error}): replace or remove it",
            path=path,
            error=error,
        ) from error
    if mode[0] in "IF":  # 16 and 32 bits: the conversion has clipped them silently
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
    if image.mode == "P":  # via RGBA, because PIL warns about palettes with transparency
        image = image.convert("RGBA")
    return image.convert("RGB")
