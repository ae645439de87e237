"""The command as users and scripts see it: exit codes, output and clear errors."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import onnxruntime
import pyarrow.parquet
import pytest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest, ListRunsRequest
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack

from tests.blobs import Blobs, plain
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


async def labelloop(*arguments: str | Path, stack: Stack | None = None, **environment: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    if stack:
        endpoints = stack.endpoints
        environment |= {
            "LABELLOOP_TRAINER": endpoints.trainer,
            "LABELLOOP_SCORER": endpoints.scorer,
            "LABELLOOP_ORACLE": endpoints.oracle,
        }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labelloop_cli", *arguments),
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    text = output.decode()
    assert "Traceback" not in text
    return process.returncode, text


def row(run_id: str, table: str) -> str:
    """The line of a run in the output of ``labelloop run list``."""
    [found] = [line for line in table.splitlines() if line.split()[:1] == [run_id]]
    return found


def pool_options(blobs: Blobs) -> list[str | Path]:
    return [
        blobs.samples,
        *("--labels", blobs.labels),
        *("--evaluation", blobs.evaluation),
        *("--evaluation-labels", blobs.evaluation_labels),
    ]


async def test_a_run_is_started_exported_and_reported(stack: Stack, blobs: Blobs, tmp_path: Path) -> None:
    options = ["--run-id", "mine", "--budget", "20", "--auto-label", "10"]
    code, text = await labelloop("run", "start", *pool_options(blobs), *options, stack=stack)
    assert code == 0, text
    assert "finished" in text
    parquet, csv, model = tmp_path / "l.parquet", tmp_path / "l.csv", tmp_path / "m.onnx"
    assert (await labelloop("export", "labels", "mine", "-o", parquet, stack=stack))[0] == 0
    assert (await labelloop("export", "labels", "mine", "-o", csv, "--kind", "labels", stack=stack))[0] == 0
    assert (await labelloop("export", "model", "mine", "-o", model, stack=stack))[0] == 0
    table = pyarrow.parquet.read_table(parquet)
    assert table.column_names[:2] == ["id", "class"]
    assert sum(table["auto_labelled"].to_pylist()) == 10
    assert len(csv.read_text().splitlines()) == 21
    session = onnxruntime.InferenceSession(model)
    assert session.get_inputs()[0].shape == ["n", 6, 6]
    assert session.get_modelmeta().custom_metadata_map["run"] == "mine"
    recorded = tmp_path / "r.onnx"
    assert (await labelloop("export", "model", "mine", "-o", recorded, "--as-recorded", stack=stack))[0] == 0
    digest = hashlib.sha256(recorded.read_bytes()).hexdigest()
    assert session.get_modelmeta().custom_metadata_map["model_sha256"] == digest
    page = tmp_path / "page.html"
    assert (await labelloop("report", "mine", "-o", page, stack=stack))[0] == 0
    assert "Run mine" in page.read_text()
    assert "<svg" in page.read_text()
    code, text = await labelloop("run", "list", stack=stack)
    assert code == 0
    assert "20/20" in row("mine", text)


_FEW = ["--budget", "20"]
_PUBLISHED = [*_FEW, "--stop-on", "50"]
BAD_INPUT: list[tuple[list[str], int, str]] = [
    (["run", "start"], 2, "say what to label: `labelloop run start pictures/`"),
    (["run", "start", "cifar"], 2, "cifar"),
    (["run", "start", "POOL", "--labels-from", "queue", "--gold", "GOLD"], 2, "row 3: 'cow' is no class"),
    (["run", "start", "POOL", "--gold", "GOLD"], 2, "add --labels-from queue"),
    (["run", "start", "POOL", "--labels-from", "queue", "--gold", "no-such.csv"], 2, "no-such.csv"),
    (["pool", "inspect"], 2, "say what to label"),
    (["pool", "inspect", "cifar"], 2, "cifar"),
    (["pool", "inspect", "ALTERED"], 1, "altered.npy"),
    (["run", "start", "--strategy", "psychic"], 2, "psychic"),
    (["run", "start", "--batch-size", "0"], 2, "batch-size"),
    (["run", "start", "POOL", "--budget", "301"], 2, "300"),
    (["run", "start", "POOL", "--run-id", "a b"], 2, "run id"),
    (["run", "start", "POOL", "--limit", "301"], 2, "300"),
    (["run", "start", "POOL", "--continues", "nobody"], 2, "nobody"),
    (["run", "start", "ALTERED"], 1, "altered.npy"),
    (["run", "start", "POOL", "--protocol", "published", *_PUBLISHED, "--control", "5"], 2, "--control"),
    (["run", "start", "POOL", "--protocol", "published", "--first-batch", "20"], 2, "--first-batch"),
    (["run", "start", "POOL", "--protocol", "published", "--features", "patches", *_PUBLISHED], 2, "sees pixels"),
    (["run", "start", "POOL", *_FEW, "--guarantee"], 2, "280 samples that are left"),
    (["run", "start", "POOL", *_FEW, "--guarantee", "--guarantee-target", "1"], 2, "between 0 and 1"),
    (["run", "start", "POOL", *_FEW, "--audit", "100"], 2, "add --guarantee"),
    (["run", "start", "POOL", *_FEW, "--annotators", "2"], 2, "add --labels-from queue"),
    (["run", "start", "-f", "no-such.yaml"], 2, "no-such.yaml"),
    (["run", "start", "-f", "MISSPELT"], 2, "budget: there is no such field"),
    (["run", "spec", "nobody"], 2, "nobody"),
    (["run", "watch", "nobody"], 2, "nobody"),
    (["run", "cancel", "nobody"], 2, "nobody"),
    (["export", "labels", "nobody"], 2, "nobody"),
    (["export", "labels", "nobody", "-o", "labels.txt"], 2, ".csv or .parquet"),
    (["export", "model", "nobody"], 2, "nobody"),
    (["report", "nobody"], 2, "nobody"),
    (["report", "nobody", "--price", "-1"], 2, "--price"),
    (["label", "open", "nobody"], 2, "nobody"),
    (["label", "submit", "nobody", "no-such.csv"], 2, "no-such.csv"),
    (["label", "submit", "nobody", "ALTERED"], 2, "it holds zero bytes"),
    (["label", "submit", "nobody", "GOLD"], 2, "nobody"),
    (["label", "revise", "nobody", "a.png", "cat"], 2, "nobody"),
    (["sing"], 2, "sing"),
]


async def test_bad_input_gets_a_clear_error_and_changes_nothing(
    stack: Stack, shared_clients: Clients, blobs: Blobs, tmp_path: Path
) -> None:
    before = await shared_clients.trainer.ListRuns(ListRunsRequest())
    altered = tmp_path / "altered.npy"
    altered.write_bytes(blobs.samples.read_bytes()[:1000])
    gold = tmp_path / "gold.csv"
    gold.write_text("id,class\n1,0\n2,cow\n")
    misspelt = tmp_path / "misspelt.yaml"
    misspelt.write_text("budget: 20\n")
    stand_ins: dict[str, list[str | Path]] = {
        **{"POOL": pool_options(blobs), "ALTERED": [altered], "MISSPELT": [misspelt], "GOLD": [gold]}
    }
    for arguments, code, says in BAD_INPUT:
        words = [word for argument in arguments for word in stand_ins.get(argument, [argument])]
        found, text = await labelloop(*words, stack=stack)
        assert (found, says in text) == (code, True), (arguments, found, text)
    assert await shared_clients.trainer.ListRuns(ListRunsRequest()) == before


async def test_a_printed_spec_starts_an_equal_run(
    stack: Stack, shared_clients: Clients, blobs: Blobs, tmp_path: Path
) -> None:
    options = ["--run-id", "first", "--budget", "20", "--stop-when-stable", "5", "--strategy", "margin"]
    code, text = await labelloop("run", "start", *pool_options(blobs), *options, stack=stack)
    assert code == 0, text
    code, text = await labelloop("run", "spec", "first", stack=stack)
    assert code == 0, text
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    assert (await labelloop("run", "start", "-f", file, "--run-id", "second", stack=stack))[0] == 0
    assert (await labelloop("run", "start", "-f", file, "--seed", "7", "--run-id", "third", stack=stack))[0] == 0
    first, second, third = [
        (await shared_clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run.spec
        for run_id in ("first", "second", "third")
    ]
    assert first == second
    second.seed = 7
    assert second == third


async def test_a_run_that_cannot_learn_features_fails_and_says_why(stack: Stack, blobs: Blobs) -> None:
    options = ["--run-id", "plain", "--labels", str(blobs.labels), "--features", "patches", "--budget", "20"]
    code, text = await labelloop("run", "start", plain(blobs), *options, stack=stack)
    assert code == 1, text
    assert "no features can be learned from this pool: nearly all of its images are plain surfaces" in text
    assert "failed" in row("plain", (await labelloop("run", "list", stack=stack))[1])


async def test_without_services_the_error_says_how_to_start_them() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code, text = await labelloop("run", "list", LABELLOOP_TRAINER=f"127.0.0.1:{unused.getsockname()[1]}")
    assert code == 1
    assert "labelloop up" in text


async def test_a_port_in_use_is_named(tmp_path: Path, nats_binary: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for option in ("--nats-port", "--trainer-port"):
            rest = [f"--{name}-port=0" for name in ("nats", "trainer", "scorer", "oracle") if name not in option]
            code, text = await labelloop("up", "--store", tmp_path / option, option, port, *rest)
            assert code == 1
            assert port in text


async def test_up_names_the_url_of_an_unreachable_broker(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{unused.getsockname()[1]}"
        code, text = await labelloop("up", "--store", tmp_path / "s", "--nats", url)
    assert code == 1
    assert url in text


async def test_up_names_the_setting_of_an_unknown_artifact_store(stack: Stack, tmp_path: Path) -> None:
    store = tmp_path / "s"
    code, text = await labelloop(
        "up", "--store", store, "--nats", stack.nats_url, LABELLOOP_ARTIFACTS_URL="carrier-pigeon://coop"
    )
    assert code == 1
    assert "LABELLOOP_ARTIFACTS_URL" in text


async def test_up_names_an_invalid_setting(stack: Stack, tmp_path: Path) -> None:
    code, text = await labelloop("up", "--store", tmp_path / "s", "--nats", stack.nats_url, LABELLOOP_DRAIN_S="soon")
    assert code == 2
    assert "LABELLOOP_DRAIN_S" in text


async def test_up_refuses_remote_pools_that_are_no_urls(stack: Stack, tmp_path: Path) -> None:
    remote = "s3://bucket/sets,our-bucket/sets"
    code, text = await labelloop("up", "--store", tmp_path / "s", "--nats", stack.nats_url, "--remote-pools", remote)
    assert code == 2
    assert text.startswith("error: --remote-pools: ")
    assert "'our-bucket/sets' is no URL" in text


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_links_to_the_page_work_after_a_restart(tmp_path: Path, nats_binary: Path, how: signal.Signals) -> None:
    if how == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends services with a killed command")
    links = []
    for _ in range(2):
        ports = [f"--{name}-port=0" for name in ("nats", "trainer", "scorer", "oracle", "page")]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "labelloop_cli", "up", "--annotate", "--store", str(tmp_path / "s"), *ports),
            env={**os.environ, "COLUMNS": "200"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(PATIENCE_S):
            while "Ctrl-C" not in said:
                said += (line := (await process.stdout.readline()).decode())
                assert line, said
            links += [line.split()[1] for line in said.splitlines() if line.startswith("page ")]
            async with httpx.AsyncClient(follow_redirects=True) as browser:
                page = await browser.get(f"{links[0]}&name=ada")
            assert page.status_code == 200
            assert "You label as ada" in page.text, "signed in by the first link"
            process.send_signal(how)
            await process.stdout.read()
            await process.wait()
        assert "do not work" not in said
    assert links[0] == links[1]
    assert (tmp_path / "s" / "page.json").stat().st_mode & 0o777 == 0o600


async def test_up_starts_without_runs_and_ctrl_c_stops_everything_it_started(tmp_path: Path, nats_binary: Path) -> None:
    ports = [f"--{name}-port=0" for name in ("nats", "trainer", "scorer", "oracle")]
    options = (*ports, "--remote-pools", "https://example.org/sets/")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labelloop_cli", "up", "--store", str(tmp_path / "s"), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    addresses: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_S):
        async for line in process.stdout:
            words = line.decode().split()
            if words[0] in ("broker", "trainer", "scorer", "oracle"):
                addresses[words[0]] = words[1].rpartition("/")[2]
            if words[0] == "oracle":
                break
        code, text = await labelloop("run", "list", LABELLOOP_TRAINER=addresses["trainer"])
        assert (code, "no runs yet" in text) == (0, True), text
        process.send_signal(signal.SIGINT)
        assert b"pools below https://example.org/sets/ are read" in await process.stdout.read()
        assert await process.wait() == 130
    assert len(addresses) == 4
    for address in addresses.values():
        host, _, port = address.rpartition(":")
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0


async def test_doctor_reports_nats_server() -> None:
    code, text = await labelloop("doctor")
    assert code == 0, text
    assert "nats-server" in text


async def test_help_explains_every_command() -> None:
    for command in ([], ["up"], ["demo"], ["run"], ["run", "start"], ["export"], ["label"], ["report"], ["doctor"]):
        code, text = await labelloop(*command, "--help")
        assert code == 0
        assert "Usage" in text


async def test_runs_are_shown_compared_and_listed_for_programs(stack: Stack, blobs: Blobs) -> None:
    budget = ("--budget", "20", "--first-batch", "10", "--batch-size", "10", "--features", "pixels")
    for run_id, strategy in (("cmp-margin", "margin"), ("cmp-random", "random")):
        options = ("--run-id", run_id, "--strategy", strategy, *budget)
        assert (await labelloop("run", "start", *pool_options(blobs), *options, stack=stack))[0] == 0
    code, shown = await labelloop("run", "show", "cmp-margin", stack=stack)
    assert code == 0
    assert "accuracy (evaluation set, n = 200)" in shown
    assert "margin" in shown
    whole = json.loads((await labelloop("run", "show", "cmp-margin", "--json", stack=stack))[1])
    assert [each["labels"] for each in whole["rounds"]] == [10, 20]
    code, table = await labelloop("run", "compare", "cmp-margin", "cmp-random", stack=stack, COLUMNS="80")
    assert code == 0
    assert max(map(len, table.splitlines())) <= 80
    assert [line.split() for line in table.splitlines() if line.startswith("strategy")] == [
        ["strategy", "margin", "random"]
    ]
    both = json.loads((await labelloop("run", "compare", "cmp-margin", "cmp-random", "--json", stack=stack))[1])
    assert both["differences"]["strategy"] == ["margin", "random"]
    assert len(both["labels_to_reach_it"]) == 2
    found = (await labelloop("run", "list", "--search", "cmp-", "--sort", "name", "--csv", stack=stack))[1]
    rows = [*csv.DictReader(found.splitlines())]
    assert [each["run_id"] for each in rows] == ["cmp-margin", "cmp-random"]
    assert (await labelloop("run", "list", "--state", "failed", "--search", "cmp-", stack=stack))[1].startswith(
        "none of"
    )
    code, said = await labelloop("run", "compare", "cmp-margin", stack=stack)
    assert (code, said.strip()) == (2, "error: name 2 to 10 different runs")
    for command in (("label", "backlog"), ("label", "annotators", "list"), ("label", "dead"), ("pool", "list")):
        assert isinstance(json.loads((await labelloop(*command, "--json", stack=stack))[1]), dict)
