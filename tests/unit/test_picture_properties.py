"""Random folders of pictures become one array, each sample as Pillow computes it alone."""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from labelloop.events.v1.events_pb2 import ImageFit
from numpy.typing import NDArray
from PIL import Image, ImageOps

from oracle_svc.datasets import DatasetSource, load

_KINDS = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
    *(("GIF", mode) for mode in ("L", "P", "RGB")),
    *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("PPM", mode) for mode in ("1", "L", "RGB")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
]
_SUFFIX = {"PNG": ".png", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp", "PPM": ".ppm", "JPEG": ".jpg"}
_SIDES = st.integers(3, 40)
_STEMS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/."), min_size=1, max_size=12)


@dataclass(frozen=True)
class Drawn:
    """A picture to be written to a folder."""

    name: str
    kind: tuple[str, str]
    size: tuple[int, int]
    orientation: int

    def write(self, folder: Path) -> None:
        rows, columns = np.mgrid[: self.size[1], : self.size[0]] * 6
        smooth = np.stack([rows, columns, 255 - rows, 255 - columns], axis=-1).clip(0, 255).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = self.orientation
        options = {"exif": exif} if self.kind[0] in ("PNG", "TIFF", "JPEG", "WEBP") else {}
        Image.fromarray(smooth).convert(self.kind[1]).save(folder / self.name, self.kind[0], **options)


@st.composite
def folders(draw: st.DrawFn) -> list[Drawn]:
    sizes = draw(st.lists(st.tuples(_SIDES, _SIDES), min_size=1, max_size=3))
    stems = draw(st.lists(_STEMS, min_size=1, max_size=6, unique_by=lambda stem: unicodedata.normalize("NFC", stem)))
    drawn = []
    for number, stem in enumerate(stems):
        kind = draw(st.sampled_from(_KINDS))
        suffix = draw(st.sampled_from([_SUFFIX[kind[0]], _SUFFIX[kind[0]].upper(), "", ".dat"]))
        orientation = draw(st.integers(1, 8)) if draw(st.booleans()) else 1
        drawn.append(Drawn(f"x{stem}{number}{suffix}", kind, draw(st.sampled_from(sizes)), orientation))
    return drawn


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def alone(path: Path, *, grey: bool) -> Image.Image:
    """Read one picture by Pillow's own means, transparency on white."""
    with Image.open(BytesIO(path.read_bytes())) as image:  # Pillow maps some files by name, and turns those wrongly
        upright = ImageOps.exif_transpose(image)
    white = Image.new("RGBA", upright.size, "white")
    flat = Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    if not upright.has_transparency_data:
        flat = upright.convert("RGB")
    return flat.getchannel("R") if grey else flat


def fitted_alone(image: Image.Image, size: tuple[int, int], fit: ImageFit.ValueType) -> NDArray[Any]:
    if image.size == size:
        return np.asarray(image)
    if fit == ImageFit.IMAGE_FIT_STRETCH:
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    if fit == ImageFit.IMAGE_FIT_CROP:
        return np.asarray(ImageOps.fit(image, size, Image.Resampling.BICUBIC))
    ratio = min(Fraction(size[axis], image.size[axis]) for axis in (0, 1))
    width, height = (max(1, floor(side * ratio + Fraction(1, 2))) for side in image.size)
    pixels = np.full((size[1], size[0], *np.asarray(image).shape[2:]), 255, np.uint8)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    pixels[top : top + height, left : left + width] = np.asarray(
        image.resize((width, height), Image.Resampling.BICUBIC)
    )
    return pixels


@given(
    drawn=folders(),
    size=st.none() | st.tuples(_SIDES, _SIDES),
    fit=st.sampled_from([ImageFit.IMAGE_FIT_PAD, ImageFit.IMAGE_FIT_CROP, ImageFit.IMAGE_FIT_STRETCH]),
)
def test_each_sample_is_its_file_fitted(
    drawn: list[Drawn], size: tuple[int, int] | None, fit: ImageFit.ValueType
) -> None:
    with tempfile.TemporaryDirectory() as created:
        folder = Path(created)
        for picture in drawn:
            picture.write(folder)
        asked = f"{size[0]}x{size[1]}" if size else ""
        source = DatasetSource(created, classes=("a", "b"), size=asked, fit=fit)
        dataset = load(source, data_dir=None, cache_dir=folder)
        paths = sorted(folder.iterdir())
        assert list(dataset.names) == [unicodedata.normalize("NFC", path.name) for path in paths]
        height, width = dataset.samples.shape[1:3]
        assert size in (None, (width, height))
        grey = all(mode_of(path) in ("1", "L", "LA") for path in paths)
        assert dataset.samples[:].ndim == (3 if grey else 4)
        images = [alone(path, grey=grey) for path in paths]
        for path, image, sample in zip(paths, images, dataset.samples[:], strict=True):
            difference = np.abs(sample.astype(int) - fitted_alone(image, (width, height), fit)).astype(int)
            lossy = path.read_bytes().startswith(b"\xff\xd8") and image.size != (width, height)
            assert difference.mean() < 12 if lossy else difference.max() <= 2  # JPEG is reduced while it is decoded
        changed = any(image.size != (width, height) for image in images)
        assert [original.sha256 for original in dataset.originals] == (
            [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] if changed else []
        )
        assert any("fitted" in note for note in dataset.notes) == changed
        assert changed or size or len({image.size for image in images}) == 1


@given(
    kind=st.sampled_from(_KINDS),
    suffix=st.sampled_from(["", ".jpg", ".png", ".tga", ".ico", ".psd"]),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 600),
)
def test_damaged_files_are_read_refused_or_left_out(
    kind: tuple[str, str], suffix: str, edits: list[tuple[int, int]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as created:
        folder = Path(created)
        Drawn(f"z{suffix}", kind, (9, 7), 6).write(folder)
        data = bytearray((folder / f"z{suffix}").read_bytes())
        for place, value in edits:
            data[place % len(data)] = value
        (folder / f"z{suffix}").write_bytes(data[: len(data) - cut] if cut < len(data) // 2 else data)
        Image.new("L", (9, 7)).save(folder / "a.png")
        source = DatasetSource(created, classes=("a", "b"), size="9x7", skip_bad=True)
        dataset = load(source, data_dir=None, cache_dir=folder)
        assert dataset.names[0] == "a.png"
        assert len(dataset.samples) == len(dataset.names)
        left_out = [note for note in dataset.notes if "left out" in note]
        assert len(dataset.names) + len(left_out) == 2
