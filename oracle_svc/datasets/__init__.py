"""Load samples and labels from MNIST, array files or folders of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labelloop.errors import InvalidInput, LimitExceeded

from .dataset import Dataset, DatasetSource
from .embeddings import check_embeddings, embedded
from .files import load_files
from .mnist import load_mnist
from .names import check_sample_names

__all__ = ["PATHS", "Dataset", "DatasetSource", "load", "refuse_outside"]


PATHS = ("name", "labels", "evaluation", "evaluation_labels", "graph", "embeddings", "evaluation_embeddings")
_GRAPH_BYTES_MAX = 64 * 1024 * 1024


def load(
    source: DatasetSource,
    *,
    data_dir: Path | None,
    cache_dir: Path,
    pools_dir: Path | None = None,
    uploads_dir: Path | None = None,
) -> Dataset:
    """Load the dataset that ``source`` describes. Blocks on disk I/O and, for MNIST, possibly on the network.

    Args:
        source: Paths and class names from the run's spec.
        data_dir: The operator's folder, which may hold MNIST.
        cache_dir: The folder in which downloads are kept, and large pools are unpacked.
        pools_dir: The only folder that paths in ``source`` may point into; None for no restriction.
        uploads_dir: A folder that they may point into as well.

    Raises:
        InvalidInput: ``source`` is wrong in a way that its author can correct.
        NotFound: A file does not exist.
        Corrupt: A file's bytes are damaged.
        LimitExceeded: The graph, the data or the classes are too large.
    """
    refuse_outside(source, pools_dir, uploads_dir)
    check_embeddings(source)
    graph = _read_graph(source.graph) if source.graph else b""
    if source.name == "mnist":
        _refuse_extras(source)
        return embedded(replace(load_mnist(data_dir, cache_dir), graph=graph), source)
    return embedded(check_sample_names(replace(load_files(source, cache_dir), graph=graph)), source)


def _read_graph(text: str) -> bytes:
    """Read the graph's bytes unparsed; the scorer validates them."""
    path = Path(text)
    try:
        if not path.is_file():
            raise InvalidInput("UNKNOWN_GRAPH", f"graph: there is no file {text!r}", field="graph", path=text)
        if path.stat().st_size > _GRAPH_BYTES_MAX:
            message = f"graph: {text} has more than {_GRAPH_BYTES_MAX} bytes"
            raise LimitExceeded("GRAPH_TOO_LARGE", message, field="graph", path=text)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError for a null character
        message = f"graph: {text!r} cannot be read: {error}"
        raise InvalidInput("UNKNOWN_GRAPH", message, field="graph", path=text) from error


def refuse_outside(source: DatasetSource, pools_dir: Path | None, uploads_dir: Path | None = None) -> None:
    """Refuse paths outside ``pools_dir`` before touching them: whether a file exists is already information.

    Paths inside ``uploads_dir`` are allowed as well.
    """
    if pools_dir is None:
        return
    allowed = [pools_dir, uploads_dir] if uploads_dir else [pools_dir]
    for field in PATHS:
        text = getattr(source, field)
        of_ours = field == "name" and text == "mnist"
        if text and not of_ours and not any(_lies_in(text, folder) for folder in allowed):
            message = f"{field}: {text!r} lies outside {pools_dir}, where the oracle service reads pools: put it there"
            raise InvalidInput("PATH_OUTSIDE", message, field=field, path=text)


def _lies_in(text: str, folder: Path) -> bool:
    """Return whether ``text``, with links resolved, is inside ``folder``; False if it cannot be a path."""
    try:
        return Path(text).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a null character, links in a circle
        return False


def _refuse_extras(source: DatasetSource) -> None:
    """Refuse settings that MNIST already determines; they would otherwise be ignored silently."""
    columns = ("text_column", "id_column", "label_column", "columns")
    for field in ("labels", "evaluation", "evaluation_labels", "classes", "size", "fit", "background", *columns):
        if getattr(source, field):
            raise InvalidInput(
                "NOT_FOR_MNIST",
                f"{field} is set, but mnist brings its own labels, classes and evaluation set: leave {field} out",
                field=field,
                setting=field,
            )
