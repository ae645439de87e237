"""Small pools of every kind of file, to damage."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from oracle_svc.datasets import DatasetSource

COUNT = 12
_PICTURES = ("png", "jpg", "gif", "bmp", "tiff", "webp", "ico", "tga", "jp2", "avif")
_TEXTS = [f"the text of row {i}, with ümläuts" for i in range(COUNT)]

Written = tuple[DatasetSource, Path]
"""How to name the pool, and the file of it to damage."""


def _array(folder: Path) -> Written:
    np.save(folder / "pool.npy", np.arange(COUNT * 36, dtype=np.uint8).reshape(COUNT, 6, 6))
    return _labelled(folder, folder / "pool.npy")


def _labels(folder: Path) -> Written:
    source, _ = _array(folder)
    return source, Path(source.labels)


def _idx(folder: Path) -> Written:
    path = folder / "pool.idx"
    path.write_bytes(_idx_bytes())
    return _labelled(folder, path)


def _gzip(folder: Path) -> Written:
    path = folder / "pool.idx.gz"
    path.write_bytes(gzip.compress(_idx_bytes(), mtime=0))
    return _labelled(folder, path)


def _embeddings(folder: Path) -> Written:
    source, _ = _csv_texts(folder)
    path = folder / "embeddings.npz"
    names = np.array([str(i) for i in range(COUNT)])
    np.savez(path, names=names, embeddings=np.ones((COUNT, 3), np.float32))
    return replace(source, embeddings=str(path)), path


def _csv_table(folder: Path) -> Written:
    rows = [f"{i};{i / 7};{'red' if i % 2 else 'blue'};{i % 3}" for i in range(COUNT)]
    path = folder / "table.csv"
    path.write_text("\n".join(["id;size;colour;class", *rows]))
    return DatasetSource(name=str(path), id_column="id", label_column="class"), path


def _csv_texts(folder: Path) -> Written:
    path = folder / "texts.csv"
    path.write_text("\n".join(["id,text,class", *(f'{i},"{text}",{i % 2}' for i, text in enumerate(_TEXTS))]))
    return DatasetSource(name=str(path), text_column="text", id_column="id", label_column="class"), path


def _jsonl_texts(folder: Path) -> Written:
    path = folder / "texts.jsonl"
    path.write_text("\n".join(f'{{"id": {i}, "text": "{text}", "class": {i % 2}}}' for i, text in enumerate(_TEXTS)))
    return DatasetSource(name=str(path), text_column="text", id_column="id", label_column="class"), path


def _parquet(folder: Path) -> Written:
    path = folder / "table.parquet"
    columns = {"id": list(range(COUNT)), "size": [i / 7 for i in range(COUNT)], "class": [i % 3 for i in range(COUNT)]}
    pq.write_table(pa.table(columns), path)
    return DatasetSource(name=str(path), id_column="id", label_column="class"), path


def _text_folder(folder: Path) -> Written:
    for i, text in enumerate(_TEXTS):
        path = folder / "texts" / f"class{i % 2}" / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return DatasetSource(name=str(folder / "texts")), folder / "texts/class0/0.txt"


def _pictures(suffix: str) -> Callable[[Path], Written]:
    def write(folder: Path) -> Written:
        data = _picture(suffix)
        for i in range(COUNT):
            path = folder / "pictures" / f"class{i % 2}" / f"{i}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return DatasetSource(name=str(folder / "pictures")), folder / f"pictures/class0/0.{suffix}"

    return write


def _picture(suffix: str) -> bytes:
    out = BytesIO()
    kind = Image.registered_extensions()[f".{suffix}"]
    pixels = np.arange(16 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3)
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def _labelled(folder: Path, pool: Path) -> Written:
    np.save(folder / "labels.npy", np.arange(COUNT) % 3)
    return DatasetSource(name=str(pool), labels=str(folder / "labels.npy")), pool


def _idx_bytes() -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3I", COUNT, 6, 6) + bytes(range(36)) * COUNT


POOLS: dict[str, Callable[[Path], Written]] = {
    "array": _array,
    "labels": _labels,
    "idx": _idx,
    "gzip": _gzip,
    "embeddings": _embeddings,
    "table in CSV": _csv_table,
    "texts in CSV": _csv_texts,
    "texts in JSON lines": _jsonl_texts,
    "table in Parquet": _parquet,
    "folder of texts": _text_folder,
    **{f"pictures in {suffix}": _pictures(suffix) for suffix in _PICTURES},
}
