"""Run a real Prometheus, with its data in a folder of the test. LABELLOOP_PROMETHEUS names the program, or the folder
of it and promtool; the default is PATH."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.patience import PATIENCE_S

COMPONENT = Path(__file__).parents[2] / "deploy/kubernetes/components/prometheus"
_LISTENS = re.compile(r'msg="?Listening on"? address=(?P<address>[\d.:]+)')
_KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
_LABEL_LISTS = r"\b(by|without|on|ignoring|group_left|group_right)\s*(\([^)]*\))?"


def program(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``; skip the test if it is missing."""
    told = Path(os.environ.get("LABELLOOP_PROMETHEUS", ""))
    folder = told if told.is_dir() else told.parent
    path = shutil.which(name, path=f"{folder}:{os.environ['PATH']}" if told.name else None)
    if path is None:
        pytest.skip(f"there is no {name}: install Prometheus, or say in LABELLOOP_PROMETHEUS where it is")
    return path


def rules() -> dict[str, Any]:
    """Return what Prometheus's operator writes to a file."""
    rule: dict[str, Any] = yaml.safe_load((COMPONENT / "alerts.yaml").read_text())
    spec: dict[str, Any] = rule["spec"]
    return spec


def alerts() -> list[dict[str, Any]]:
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads((COMPONENT / "dashboard.json").read_text())
    return made


def dashboard_expressions() -> dict[str, list[str]]:
    """Return expressions by panel title, as Grafana sends them."""
    return {
        panel["title"]: [target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"]]
        for panel in dashboard()["panels"]
    }


def names_in(expression: str) -> set[str]:
    """Return the metrics in a PromQL expression: no functions, keywords, labels or values."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", re.sub(r'"[^"]*"', "", expression))
    bare = re.sub(_LABEL_LISTS, " ", bare)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - _KEYWORDS


def promtool(*arguments: str) -> str:
    """Return its output, or raise AssertionError."""
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Prometheus:
    address: str

    def ask(self, path: str, **query: str) -> Any:
        """Return the HTTP API's answer under /api/v1, or raise urllib's HTTPError."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current series."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def number(self, expression: str) -> float:
        """Return the single current value, or NaN."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else float("nan")

    def active_alerts(self) -> dict[str, str]:
        """Return states by alert: pending or firing."""
        return {each["labels"]["alertname"]: each["state"] for each in self.ask("alerts")["alerts"]}


@asynccontextmanager
async def running(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Scrape ``targets``, name to HOST:PORT, every two seconds, and evaluate alerts."""
    folder.mkdir()
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules()))
    jobs = [{"targets": [address], "labels": {"pod": name}} for name, address in targets.items()]
    config = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [{"job_name": "labelloop", "scrape_timeout": "2s", "static_configs": jobs}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    arguments = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    log_file = folder / "prometheus.log"
    with log_file.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*arguments, stdout=output, stderr=output)
    try:
        yield Prometheus(await _address(process, log_file))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _address(process: asyncio.subprocess.Process, log_file: Path) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            said = log_file.read_text(errors="replace")
            if found := _LISTENS.search(said):
                return found["address"]
            assert process.returncode is None, said
            await asyncio.sleep(0.05)


def exposed_names(pages: Iterable[str]) -> set[str]:
    """Return the names of all series that ``pages`` can hold, also of empty families."""
    names: set[str] = set()
    for line in (line for page in pages for line in page.splitlines() if line.startswith("# TYPE ")):
        _, _, name, kind = line.split()
        names |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names
