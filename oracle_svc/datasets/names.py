"""Check the names of a dataset's samples. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop.domain.names import name_fault
from labelloop.errors import InvalidInput

from .dataset import Dataset

SAMPLE_NAME_CHARACTERS_MAX = 1_000  # names are paths below the pool's folder, or a column of a table


def check_sample_names(dataset: Dataset) -> Dataset:
    """Return the dataset. Raises InvalidInput for the first sample whose name is too long or cannot all be seen."""
    _check(dataset.names, dataset.name, "name")
    _check(dataset.evaluation_names, dataset.name, "evaluation")
    return dataset


def _check(names: Sequence[str], origin: str, field: str) -> None:
    for place, name in enumerate(names):
        if fault := name_fault(name, SAMPLE_NAME_CHARACTERS_MAX):
            shown = ascii(name[:60])
            message = f"{origin}: the name of sample {place}, {shown}, is refused: {fault}, and rename its file or row"
            raise InvalidInput("BAD_SAMPLE_NAME", message, field=field, sample_id=place)
