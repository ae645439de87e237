"""Where samples and labels come from: MNIST, arrays in files, folders of images."""

from __future__ import annotations

from pathlib import Path

from labelloop.wire.errors import InvalidInput

from .dataset import Dataset, DatasetSource
from .files import load_files
from .mnist import load_mnist

__all__ = ["Dataset", "DatasetSource", "load"]


def load(source: DatasetSource, *, data_dir: Path | None, cache_dir: Path) -> Dataset:
    """Read what ``source`` names; blocks on disk and, for MNIST, perhaps on the network.

    ``data_dir`` is a folder of the operator's that may hold MNIST; ``cache_dir`` is where downloads are kept.
    Raises InvalidInput for a source that its author can mend, NotFound for a file that is not there, and
    Corrupt for one whose bytes are damaged.
    """
    if source.name != "mnist":
        return load_files(source)
    _refuse_extras(source)
    return load_mnist(data_dir, cache_dir)


def _refuse_extras(source: DatasetSource) -> None:
    """MNIST knows its labels and classes: what a spec says about them would be dropped without a word."""
    for field in ("labels", "evaluation", "evaluation_labels", "classes"):
        if getattr(source, field):
            raise InvalidInput(
                "NOT_FOR_MNIST",
                f"{field} is set, but mnist brings its own labels, classes and evaluation set: leave {field} out",
                field=field,
                setting=field,
            )
