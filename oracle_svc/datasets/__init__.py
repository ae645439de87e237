"""Load samples and labels from MNIST, array files or folders of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labelloop.artifacts.onnx_outline import check_outline
from labelloop.errors import InvalidInput, LimitExceeded

from .dataset import Dataset, DatasetSource
from .embeddings import check_embeddings, embedded
from .file_access import is_file, open_file
from .files import load_files
from .mnist import load_mnist
from .names import check_sample_names
from .places import PATHS
from .roles import check_roles

__all__ = ["PATHS", "Dataset", "DatasetSource", "load"]

_GRAPH_BYTES_MAX = 64 * 1024 * 1024


def load(source: DatasetSource, *, data_dir: Path | None, cache_dir: Path) -> Dataset:
    """Load the dataset that ``source`` describes. Blocks on disk I/O and, for MNIST, possibly on the network.

    Args:
        source: Paths and class names from the run's spec. Whether they may be read is decided before, by
            :class:`oracle_svc.datasets.places.Places`; no part of a path may be a link.
        data_dir: The operator's folder, which may hold MNIST.
        cache_dir: The folder in which downloads are kept, and large pools are unpacked.

    Raises:
        InvalidInput: ``source`` is wrong in a way that its author can correct.
        NotFound: A file does not exist.
        Corrupt: A file's bytes are damaged.
        LimitExceeded: The graph, the data or the classes are too large.
    """
    check_roles(source)
    check_embeddings(source)
    graph = _read_graph(source.graph) if source.graph else b""
    if source.name == "mnist":
        _refuse_extras(source)
        return embedded(replace(load_mnist(data_dir, cache_dir), graph=graph), source)
    return embedded(check_sample_names(replace(load_files(source, cache_dir), graph=graph)), source)


def _read_graph(text: str) -> bytes:
    """Read a graph, of which the outline is checked: what is no graph must not become an artifact.

    The scorer validates what it computes.
    """
    path = Path(text)
    try:
        if not is_file(path):
            raise InvalidInput("UNKNOWN_GRAPH", f"graph: there is no file {text!r}", field="graph", path=text)
        with open_file(path) as file:
            data = file.read(_GRAPH_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError for a null character
        message = f"graph: {text!r} cannot be read: {error}"
        raise InvalidInput("UNKNOWN_GRAPH", message, field="graph", path=text) from error
    if len(data) > _GRAPH_BYTES_MAX:
        message = f"graph: {text} has more than {_GRAPH_BYTES_MAX} bytes"
        raise LimitExceeded("GRAPH_TOO_LARGE", message, field="graph", path=text)
    check_outline(data, text, "graph")
    return data


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
