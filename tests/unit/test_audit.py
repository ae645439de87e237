"""Known flaws of pinned libraries, asked of a database that the tests serve."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from environments import audit
from environments.pinned import Pin, pins

from tests.docker.supplies import ROOT

Answer = Callable[[list[str]], Any]


def none_known(purls: list[str]) -> Any:
    return {"results": [{} for _ in purls]}


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[Answer]]]:
    """A database's URL, and the answer that it gives: to be replaced."""
    says: list[Answer] = [none_known]

    class Database(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(says[0]([each["package"]["purl"] for each in asked["queries"]])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    monkeypatch.chdir(ROOT)
    with HTTPServer(("127.0.0.1", 0), Database) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", says
        server.shutdown()
        thread.join()


def test_a_library_with_a_known_flaw_is_named(
    database: tuple[str, list[Answer]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, says = database
    flaw = {"vulns": [{"id": "CVE-2"}, {"id": "CVE-1"}]}
    says[0] = lambda purls: {"results": [flaw if "pkg:pypi/pillow@" in purl else {} for purl in purls]}
    assert audit.main(url) == 1
    said = capsys.readouterr().out
    assert "pillow 1" in said
    assert "CVE-1, CVE-2" in said
    assert "1 of " in said


def test_every_pinned_library_is_asked_about(
    database: tuple[str, list[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BATCH", 7)
    asked: list[str] = []

    def remember(purls: list[str]) -> Any:
        asked.extend(purls)
        return none_known(purls)

    database[1][0] = remember
    assert audit.main(database[0]) == 0
    assert len(asked) == len(set(asked))
    assert {"pkg:pypi/torch@2.13.0", "pkg:pypi/gcsfs@2026.10.1"} <= set(asked)


@pytest.mark.parametrize(
    "answer", [{}, [], {"results": []}, {"results": None}, {"results": ["odd"]}, {"results": [{"vulns": [{}]}]}]
)
def test_an_odd_answer_is_no_clean_bill(
    database: tuple[str, list[Answer]], answer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    database[1][0] = lambda _: answer
    assert audit.main(database[0]) == 2
    assert "NOTHING WAS CHECKED" in capsys.readouterr().err


def test_a_database_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert audit.main("http://127.0.0.1:1") == 2
    assert "no database reachable: http://127.0.0.1:1" in capsys.readouterr().err


def test_pins_have_names_as_package_urls_have_them(tmp_path: Path) -> None:
    lock, digest = tmp_path / "a.lock", "0" * 64
    lock.write_text(f"# a comment\nA_b.C[x]==1.0+cpu ; sys_platform == 'linux' \\\n    --hash=sha256:{digest}\n")
    assert pins([lock, lock]) == [Pin("a-b-c", "1.0", (digest,))]
    assert pins([lock])[0].purl == "pkg:pypi/a-b-c@1.0"
