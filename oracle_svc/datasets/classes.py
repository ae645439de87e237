"""Determine a run's classes and convert labels to class indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from labelloop.domain.class_names import class_of
from labelloop.domain.names import name_fault
from labelloop.errors import InvalidInput, LimitExceeded
from numpy.typing import NDArray

from .arrays import in_range
from .dataset import DatasetSource
from .split import Split
from .unknown_labels import UNKNOWN

# A column of ids mistaken for labels would otherwise yield as many classes as its largest id.
_CLASSES_MAX = 10_000
_COMPARISONS_MAX = 1_000_000  # a second
_NAMES_BYTES_MAX = 256 * 1024  # all names are in one event, and the broker accepts up to one megabyte


def class_names(source: DatasetSource, pool: Split) -> tuple[str, ...]:
    """Return the run's class names, index = class.

    They come from ``source``, else from the class folders or the label column, else are counted from the pool's labels.

    Raises:
        InvalidInput: There are fewer than two, or a name is empty, repeated, not UTF-8, longer than 200 characters, or
            holds characters that cannot be seen.
        LimitExceeded: There are more than 10,000, or their names take more than 256 KiB in all.
    """
    classes = source.classes or pool.classes or _counted_classes(source, pool)
    if len(classes) < 2:
        raise InvalidInput(
            "TOO_FEW_CLASSES",
            f"{source.name} has {len(classes)} class(es): name at least two in classes (or give labels of two or more)",
            field="classes",
            name=source.name,
            class_count=len(classes),
        )
    _check_amount(classes)
    unwritten = [name for name in classes if not _is_text(name)]
    if unwritten:
        raise InvalidInput(
            "CLASS_NAMES",
            f"the class folder {unwritten[0]!r} of {source.name} has a name that is not UTF-8: rename it",
            field="name",
            class_name=repr(unwritten[0]),
        )
    _check_seen(classes)
    odd = [name for name, count in Counter(classes).items() if count > 1 or not name]
    if odd:
        raise InvalidInput(
            "CLASS_NAMES",
            f"classes holds {odd[0]!r} twice, or empty: name every class, and each by a name of its own",
            field="classes",
            class_name=repr(odd[0]),
        )
    return classes


def _check_seen(classes: tuple[str, ...]) -> None:
    for index, name in enumerate(classes):
        if fault := name_fault(name):
            message = f"the name of class {index}, {name[:60]!a}, is refused: {fault}"
            raise InvalidInput("CLASS_NAMES", message, field="classes", class_name=ascii(name[:60]))


def _is_text(name: str) -> bool:
    """Return whether ``name`` is valid Unicode; Python puts surrogates into folder names that are not."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _check_amount(classes: tuple[str, ...]) -> None:
    if len(classes) > _CLASSES_MAX:
        raise LimitExceeded(
            "TOO_MANY_CLASSES",
            f"there are {len(classes)} classes: name at most {_CLASSES_MAX}",
            field="classes",
            class_count=len(classes),
            class_count_max=_CLASSES_MAX,
        )
    names_bytes = sum(len(name.encode(errors="replace")) for name in classes)
    if names_bytes > _NAMES_BYTES_MAX:
        raise LimitExceeded(
            "CLASS_NAMES_TOO_LONG",
            f"the names of the classes take {names_bytes} bytes: shorten them to {_NAMES_BYTES_MAX} in all",
            field="classes",
            names_bytes=names_bytes,
            names_bytes_max=_NAMES_BYTES_MAX,
        )


def _counted_classes(source: DatasetSource, pool: Split) -> tuple[str, ...]:
    """Return the names ``"0"`` to the largest label; empty if there are no labels."""
    if pool.labels is None:
        return ()
    in_range(pool.labels, _CLASSES_MAX, source.labels, "labels")
    return tuple(str(index) for index in range(int(pool.labels.max()) + 1))


def labels_of(split: Split, classes: tuple[str, ...], origin: str, field: str) -> NDArray[np.int32] | None:
    """Return the split's labels [N] as indices into ``classes``, independent of the order of its class folders.

    Labels that are unknown are -1.

    Returns None for a split without labels. Raises InvalidInput for a label out of range, and for class folders whose
    names differ from ``classes``.
    """
    if split.labels is None:
        return None
    if not split.classes:
        return in_range(split.labels, len(classes), origin, field)
    if split.open_classes:
        return _named_labels(split, split.labels, classes, origin, field)
    odd = sorted(set(split.classes) ^ set(classes))
    if odd:
        raise InvalidInput(
            "CLASS_MISMATCH",
            f"{origin} and the run's classes disagree about {odd[0]!r}: there must be one folder for each class, "
            "of the same name, if need be an empty one",
            field=field,
            origin=origin,
            class_name=repr(odd[0]),
        )
    return _relabelled(split.labels, split.classes, classes)


def _named_labels(
    split: Split, labels: NDArray[np.int64], classes: tuple[str, ...], origin: str, field: str
) -> NDArray[np.int32]:
    """Convert the labels of a column, which may lack some of ``classes``.

    See :func:`labelloop.domain.class_names.class_of`.
    """
    index_of = {name: index for index, name in enumerate(classes)}
    others = [name for name in split.classes if name not in index_of]
    if len(others) * len(classes) > _COMPARISONS_MAX:  # each search reads all classes
        raise _mismatch(origin, field, others[0], f"{others[0]!r} is no class of the run")
    for name in others:
        try:
            index_of[name] = class_of(name, classes)
        except InvalidInput as error:
            raise _mismatch(origin, field, name, error.message) from error
    return _indexed(labels, split.classes, index_of)


def _mismatch(origin: str, field: str, name: str, why: str) -> InvalidInput:
    message = f"{origin}: the label {why}: correct it, or name every class"
    return InvalidInput("CLASS_MISMATCH", message, field=field, origin=origin, class_name=name)


def _relabelled(labels: NDArray[Any], names: tuple[str, ...], classes: tuple[str, ...]) -> NDArray[np.int32]:
    return _indexed(labels, names, {name: index for index, name in enumerate(classes)})


def _indexed(labels: NDArray[Any], names: tuple[str, ...], index_of: Mapping[str, int]) -> NDArray[np.int32]:
    indices = np.array([*(index_of[name] for name in names), UNKNOWN], np.int32)  # so that -1 stays what it is
    relabelled: NDArray[np.int32] = indices[labels]
    return relabelled
