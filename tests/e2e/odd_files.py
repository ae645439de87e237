"""Files that are no dataset, each in its own way."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np


def write_odd_files(folder: Path) -> list[str]:
    """Write them; return paths to name as a dataset, labels or an evaluation set."""
    folder.mkdir()
    (folder / "empty folder").mkdir()
    os.mkfifo(folder / "fifo")
    _write_bytes(folder)
    _write_arrays(folder)
    _write_image_folder(folder / "images")
    _write_unreadable_names(folder)
    missing = [folder / "missing", folder / "garbage" / "below a file"]
    devices = [Path("/dev/zero"), Path("/dev/null"), Path("/proc/self/mem"), Path("/proc/kmsg"), Path("/")]
    return [str(path) for path in (*sorted(folder.iterdir()), *missing, *devices)]


def _write_bytes(folder: Path) -> None:
    whole = _npy_header("'<f4'", "(300, 6, 6)")
    contents = {
        "empty": b"",
        "garbage": bytes(range(256)) * 8,
        "cut magic.npy": whole[:4],
        "cut header.npy": whole[:30],
        "no data.npy": whole,
        "huge claim.npy": _npy_header("'<f4'", "(1000000000000, 6, 6)"),
        "overflowing claim.npy": _npy_header("'<f4'", f"({2**63}, 6, 6)"),
        "negative claim.npy": _npy_header("'<f4'", "(-300, 6, 6)") + bytes(64),
        "unclosed.npy": _npy_header("'<f4'", "(300, ("),
        "nested.npy": _npy_header("'<f4'", "(" * 5_000),
        "odd dtype.npy": _npy_header("'<,8'", "(300, 6)"),
        "huge claim.idx": b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "many dimensions.idx": b"\0\0\x08\xff" + bytes(4 * 255),
        "bomb.gz": gzip.compress(bytes(2**24)) * 64,  # a gigabyte of zeros
        "cut.gz": gzip.compress(bytes(1_000))[:-9],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with (folder / "sparse.npy").open("wb") as file:  # takes no space on the disk
        file.write(_npy_header("'|u1'", f"({2**40}, 1)"))
        file.truncate(2**40 + 128)


def _npy_header(dtype: str, shape: str) -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


def _write_arrays(folder: Path) -> None:
    arrays = {
        "objects": np.array([{"a": 1}, None], dtype=object),
        "no rows": np.empty((0, 6, 6), np.uint8),
        "no columns": np.empty((300, 0), np.uint8),
        "scalar": np.array(3, np.uint8),
        "not finite": np.full((300, 6, 6), np.nan, np.float32),
        "enormous values": np.full((300, 6, 6), 3e38, np.float32),
        "negative": np.full((300, 6, 6), -1, np.int64),
        "complex": np.ones((300, 6, 6), np.complex64),
        "text": np.array(["a", "b"] * 150),
        "times": np.zeros((300, 6), "datetime64[s]"),
        "records": np.zeros((300, 6), [("a", "u1"), ("b", "f4")]),
        "wide": np.zeros((2, 9_000_000), np.uint8),
        "labels out of range": np.full(300, 2**62, np.int64),
        "negative labels": np.full(300, -1, np.int64),
        "many classes": np.arange(300, dtype=np.int64) * 100,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=name == "objects")


def _write_image_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.png").write_bytes(_png_claiming(60_000, 60_000))
    os.mkfifo(folder / "b.png")
    (folder / "c.png").symlink_to(folder / "missing.png")


def _write_unreadable_names(folder: Path) -> None:
    """Names that are not UTF-8, of an image and a folder; and one that is."""
    odd = os.fsdecode(b"\xff\xfe")
    for path in (folder / "odd image" / f"{odd}.png", folder / "odd class" / odd / "a.png", folder / "b" / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_png_claiming(3, 3))


def _png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
