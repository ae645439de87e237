"""Say in sentences what was chosen, left out and assumed in reading pictures. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labelloop.errors import Corrupt, InvalidInput, LabelloopError
from labelloop.events.v1.events_pb2 import ImageFit

from .file_names import counted, listed, shown
from .picture_file import DeepPicture, PictureFault, PictureHeader
from .picture_settings import PictureSettings
from .picture_size import PicturePlan, Size, typical_size

_NAMED_MAX = 20  # bad files in an error
_SIDE_USUAL_MAX = 512  # pixels
_LISTED_MAX = 5  # names in a note
_FITTED = {
    ImageFit.IMAGE_FIT_PAD: "scaled whole and padded with {background}",
    ImageFit.IMAGE_FIT_CROP: "scaled and cut off at the edges",
    ImageFit.IMAGE_FIT_STRETCH: "stretched",
}


def picture_notes(
    headers: Sequence[PictureHeader], plan: PicturePlan, changed: bool, settings: PictureSettings
) -> Iterator[str]:
    """Describe what was chosen for pictures with these headers."""
    if changed:
        yield _size_note(headers, plan, settings)
    if max(plan.size) > _SIDE_USUAL_MAX:
        yield f"models see all {_text(plan.size)} pixels of a picture, which is slow: size sets fewer, such as 128x128"
    grey, transparent = (sum(getattr(header, name) for header in headers) for name in ("grey", "transparent"))
    if plan.in_colour and grey:
        yield f"{_of(grey, len(headers))} greyscale and read as red, green and blue like the rest of the data"
    if transparent:
        declare = f"declare{'s' if transparent == 1 else ''} transparency, which is laid on {settings.background_name}"
        yield f"{transparent:,} of {counted(len(headers), 'picture')} {declare}"
    if deep := [header.reduced_bits for header in headers if header.reduced_bits]:
        yield f"{_of(len(deep), len(headers))} AVIF of up to {max(deep)} bits a channel and read with 8, as 256 levels"
    animated = sum(header.animated for header in headers)
    if animated:
        yield f"{_of(animated, len(headers))} animated or of several pages: only the first picture of each is read"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'picture')} {'is' if count == 1 else 'are'}"


def _size_note(headers: Sequence[PictureHeader], plan: PicturePlan, settings: PictureSettings) -> str:
    how = _FITTED[settings.fit].format(background=settings.background_name)
    why = "" if settings.size else f" ({_choice([(header.width, header.height) for header in headers], plan.size)})"
    return (
        f"pictures are fitted to {_text(plan.size)} pixels{why}: those of another size are {how}; people see the "
        "original files"
    )


def _choice(sizes: Sequence[Size], chosen: Size) -> str:
    typical, rule = typical_size(sizes)
    scaled = "" if typical == chosen else f", {_text(typical)}, scaled down"
    return f"{rule}{scaled}; size sets another"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def left_out_note(names: Sequence[str]) -> str:
    """Name files that are no pictures."""
    verb = "is no picture and is" if len(names) == 1 else "are no pictures and are"
    return f"{counted(len(names), 'file')} {verb} left out: {listed([shown(name) for name in names], _LISTED_MAX)}"


def skipped_note(faults: Mapping[str, PictureFault]) -> str:
    """Name pictures that skip_bad leaves out, with their faults."""
    verb = "cannot be read and is" if len(faults) == 1 else "cannot be read and are"
    return f"{counted(len(faults), 'file')} {verb} left out (skip_bad): {listed(_reasons(faults), _LISTED_MAX)}"


def bad_pictures(faults: Mapping[str, PictureFault], folder: str, field: str) -> LabelloopError:
    """Return the error that names the files, by their names in ``folder``, and what is wrong with each."""
    are_deep = all(isinstance(fault, DeepPicture) for fault in faults.values())
    kind, reason = (InvalidInput, "IMAGE_DEPTH") if are_deep else (Corrupt, "IMAGE_DAMAGED")
    return kind(
        reason,
        f"{counted(len(faults), 'file')} in {folder} cannot be read as pictures: mend or remove them, or set skip_bad "
        f"to leave them out: {listed(_reasons(faults), _NAMED_MAX)}",
        field=field,
        folder=folder,
        count=len(faults),
        path=shown(next(iter(faults))),
    )


def _reasons(faults: Mapping[str, PictureFault]) -> list[str]:
    return [f"{shown(name)} ({shown(str(fault))})" for name, fault in faults.items()]
