"""Read a table as Parquet from a folder, from S3 and from GCS, in the oracle's image: ``python reading_pools.py``.

A server in this process plays both stores: it has one object, and answers what s3fs and gcsfs ask to read it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet

from oracle_svc.datasets.rows_parquet import read_parquet

TABLE = Path("/tmp/table.parquet")
OBJECT = "/bucket/table.parquet"


class Stores(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._send(b"", len(TABLE.read_bytes()))

    def do_GET(self) -> None:
        data = TABLE.read_bytes()
        if "/storage/v1/" in self.path and "alt=media" not in self.path:
            about = {"name": "table.parquet", "bucket": "bucket", "size": str(len(data)), "kind": "storage#object"}
            body = json.dumps({**about, "updated": "2026-01-01T00:00:00.000Z", "generation": "1"}).encode()
            self._send(body, len(body), "application/json")
        elif "range" in self.headers:
            first, last = self.headers["range"].removeprefix("bytes=").split("-")
            self._send(part := data[int(first) : int(last) + 1], len(part), code=206)
        else:
            self._send(data, len(data))

    def _send(self, body: bytes, size: int, kind: str = "application/octet-stream", code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def stores() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stores) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a", "b"], "value": [1.5, 2.5]}), TABLE)
    print([list(row.cells) for row in read_parquet(TABLE, ["id", "value"], "dataset.name")])
    with stores() as url:
        options: dict[str, dict[str, object]] = {
            "s3": {"anon": True, "client_kwargs": {"endpoint_url": url, "region_name": "here"}},
            "gs": {"token": "anon", "endpoint_url": url},
        }
        for scheme, how in options.items():
            with fsspec.filesystem(scheme, **how).open(f"{scheme}:/{OBJECT}", "rb") as file:
                print(scheme, pyarrow.parquet.ParquetFile(file).read().to_pydict())


if __name__ == "__main__":
    main()
