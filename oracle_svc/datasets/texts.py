"""Read a pool of texts from a table, one text in each row, or from a folder of .txt files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
from labelloop.domain.abandonment import wanted
from labelloop.errors import InvalidInput

from .dataset import DatasetSource
from .file_access import entries_of, is_folder, is_link, open_file
from .rows import read_rows
from .text_set import TEXT_CHARACTERS_MAX, Texts, TextSet
from .unknown_labels import named_labels

_SUFFIX = ".txt"
_FILE_BYTES_MAX = 4 * TEXT_CHARACTERS_MAX + 3  # four bytes a character, behind a byte-order mark


def read_text_table(path: Path, source: DatasetSource, field: str) -> Texts:
    """Read the texts, names and labels in the columns that ``source`` names, exactly as the file has them.

    ``field`` names the setting of ``path`` in errors. Raises InvalidInput for rows that cannot be used, all together,
    unless ``source.skip_bad``; LimitExceeded if the texts take too much memory; and as :func:`read_rows` does.
    """
    named, labelled = bool(source.id_column), bool(source.label_column)
    texts = TextSet(str(path), field, source.skip_bad, named, labelled)
    columns = [source.text_column, *filter(None, (source.id_column, source.label_column))]
    for row in read_rows(path, columns, field):
        if row.fault:
            texts.leave_out(row.place, row.fault)
            continue
        text, *others = row.cells
        texts.add(row.place, text, others[0] if named else None, others[-1] if labelled else None)
    return texts.finished(*named_labels(texts.labels, source.classes)) if labelled else texts.finished(None)


def is_text_folder(folder: Path) -> bool:
    """Return whether the folder, or folders in it, hold .txt files and nothing else that is visible."""
    entries = _visible(folder)
    within = [entry for each in entries if is_folder(each) for entry in _visible(each)]
    files = [entry for entry in (*entries, *within) if not is_folder(entry)]
    return bool(files) and all(file.suffix.lower() == _SUFFIX for file in files)


def read_text_folder(folder: Path, source: DatasetSource, field: str) -> Texts:
    """Read the .txt files in ``folder``, or in one folder for each class, in the order of class and name.

    Names are paths relative to ``folder``. Raises InvalidInput for files that cannot be used, as for rows of a table,
    and for files beside class folders or folders within them.
    """
    if source.text_column or source.id_column or source.label_column:
        message = f"{folder} holds .txt files, which have no columns: leave text, id and label columns out"
        raise InvalidInput("NO_COLUMNS", message, field=field, folder=folder)
    entries = _visible(folder)
    classes = [entry for entry in entries if is_folder(entry)]
    files = [entry for entry in entries if not is_folder(entry)]
    within = [file for each in classes for file in _visible(each)]
    if (classes and files) or any(is_folder(file) for file in within):
        message = f"{folder} must hold either .txt files, or one folder of them for each class"
        raise InvalidInput("FOLDER_LAYOUT", message, field=field, folder=folder)
    texts = TextSet(str(folder), field, source.skip_bad, named=True, labelled=bool(classes))
    for file in wanted(within or files):
        _add(texts, file, folder)
    names = tuple(unicodedata.normalize("NFC", each.name) for each in classes)
    index_of = {name: index for index, name in enumerate(names)}
    labels = np.array([index_of[label] for label in texts.labels], np.int64)
    return texts.finished(labels if classes else None, names)


def _add(texts: TextSet, file: Path, folder: Path) -> None:
    name = file.relative_to(folder).as_posix()
    label = file.parent.name if file.parent != folder else None
    if is_link(file):
        texts.leave_out(name, "it is a link, and links are not followed")
        return
    with open_file(file) as opened:
        data = opened.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        texts.leave_out(name, f"the text has more than {TEXT_CHARACTERS_MAX:,} characters")
        return
    try:
        texts.add(name, data.decode("utf-8-sig"), name, label)
    except UnicodeDecodeError as error:
        texts.leave_out(name, f"it is not UTF-8 (byte {error.start:,})")


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in entries_of(folder) if not path.name.startswith("."))
