"""Samples and classes by their names in commands, against services in memory."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.errors import InvalidInput, NotFound, WrongState
from labelloop.events.v1.events_pb2 import DatasetSource, PoolPublished, RunSpec, SkipKind
from labelloop.oracle.v1.oracle_pb2 import DeadLetter, DescribeDatasetResponse, LabelRequest
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from labelloop_cli.choices import LabelKind
from labelloop_cli.operations import backlog, label, run
from labelloop_cli.operations.archive import export_run
from labelloop_cli.operations.export import write_labels, write_model, write_unlabelled
from labelloop_cli.operations.open_samples import open_
from labelloop_cli.operations.pool import inspect_pool
from labelloop_cli.reporting.run_report import write_report
from labelloop_cli.run_spec.request import start_request

from tests.fake_services import FakeOracle, FakeTrainer, served
from tests.finding import FakeFinder

PETS = ["cat", "dog"]
FILES = ["a.png", "b.png", "7", "d.png"]
HOSTILE = "\x1b]0;x\x07.png"


@pytest.fixture
def trainer() -> FakeTrainer:
    pool = PoolPublished(sample_count=4, classes=PETS)
    return FakeTrainer(
        RunStatus(run_id="r", pool=pool, spec=RunSpec(dataset=DatasetSource(name="/pets", limit_seed=2)))
    )  # type: ignore[abstract]


@pytest.fixture
async def oracle(trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOracle]:
    described = DescribeDatasetResponse(sample_count=4, classes=PETS, dtype="float32", shape=[3])
    oracle = FakeOracle(FakeFinder(FILES), described, answered=[1, 2])  # type: ignore[abstract]
    async with served(trainer, oracle, monkeypatch):
        yield oracle


def csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


async def test_labels_by_name_are_submitted_for_the_samples_they_name(oracle: FakeOracle, tmp_path: Path) -> None:
    await label.submit("r", csv(tmp_path, "name;class\n7;1\nb.png;cat\n"), "kim")
    [request] = oracle.sent
    assert [(each.sample_id, each.label) for each in request.labels] == [(2, 1), (1, 0)]


async def test_one_bad_row_and_nothing_is_submitted(oracle: FakeOracle, tmp_path: Path) -> None:
    for text, said in (("name,class\na.png,cat\nb.png,cow\n", "row 3: 'cow'"), ("name,class\na.jpg,cat\n", "row 2")):
        with pytest.raises(InvalidInput, match=said):
            await label.submit("r", csv(tmp_path, text), "kim")
    assert not oracle.sent


async def test_nothing_is_submitted_before_the_pool_is_read(
    trainer: FakeTrainer, oracle: FakeOracle, tmp_path: Path
) -> None:
    trainer.run.pool.Clear()
    with pytest.raises(WrongState, match="has not read its pool yet"):
        await label.submit("r", csv(tmp_path, "id,class\n0,cat\n"), "kim")


async def test_an_argument_is_an_id_only_if_no_sample_bears_that_name(oracle: FakeOracle) -> None:
    await label.skip("r", ["7", "b.png", "3"], "kim", "", rejected=True)
    await label.cancel("r", ["0"], "kim", "")
    await label.withdraw("r", ["7"], "kim")
    skipped, cancelled, withdrawn = oracle.sent
    assert [each.sample_id for each in skipped.samples] == [2, 1, 3]
    assert {each.kind for each in skipped.samples} == {SkipKind.SKIP_KIND_REJECTED}
    assert list(cancelled.sample_ids) == [0]
    assert [each.request_id for each in withdrawn.results] == ["r/1/2"]


@pytest.mark.parametrize(
    ("sample", "said"), [("b.pgn", "did you mean 'b.png'"), ("9", "no sample 9"), ("-1", "no sample '-1'")]
)
async def test_an_unknown_sample_is_refused_and_a_near_one_offered(oracle: FakeOracle, sample: str, said: str) -> None:
    with pytest.raises((NotFound, InvalidInput), match=said):
        await label.skip("r", [sample], "kim", "", rejected=False)
    assert not oracle.sent


async def test_a_label_is_revised_by_names_of_sample_and_class(oracle: FakeOracle) -> None:
    await label.revise("r", "b.png", "dog", "kim")
    [request] = oracle.sent
    [result] = request.results
    assert (result.request_id, result.label, result.revision) == ("r/1/1", 1, 1)
    with pytest.raises(InvalidInput, match="did you mean 'dog'"):
        await label.revise("r", "b.png", "dogs", "kim")


async def test_revising_a_sample_that_equals_a_labelled_one_says_which(
    trainer: FakeTrainer, oracle: FakeOracle
) -> None:
    trainer.run.pool.duplicate_count = 2
    oracle.finder = FakeFinder(FILES, equal={2: 0, 3: 0})
    with pytest.raises(InvalidInput, match=r"sample 3 equals sample 2 \('7'\) and shares its label") as caught:
        await label.revise("r", "d.png", "dog", "kim")
    assert caught.value.reason == "SHARES_A_LABEL"
    with pytest.raises(InvalidInput, match="sample 0 equals sample 2"):
        await label.withdraw("r", ["a.png"], "kim")
    oracle.finder = FakeFinder(FILES, equal={3: 0})
    with pytest.raises(InvalidInput, match="nobody has said anything of sample 3"):
        await label.revise("r", "d.png", "dog", "kim")
    assert not oracle.sent


async def test_gold_samples_are_found_in_the_dataset_before_the_run_starts(
    trainer: FakeTrainer, oracle: FakeOracle, tmp_path: Path
) -> None:
    gold = csv(tmp_path, "name,class\nd.png,dog\n7,0\n")
    document = {"dataset": {"name": "/pets"}, "features": "auto", "queue": {"gold": gold, "annotators": 2}}
    await run.start(start_request(document, run_id="new", continues=""), watched=False)
    [request] = trainer.started
    assert [(each.sample_id, each.label) for each in request.spec.queue.gold] == [(3, 1), (2, 0)]
    assert request.spec.queue.annotators == 2
    assert oracle.finder.requests[0].dataset.name == "/pets"
    csv(tmp_path, "name,class\nd.png,cow\n")
    with pytest.raises(InvalidInput, match="row 2: 'cow' is no class"):
        await run.start(start_request(document, run_id="newer", continues=""), watched=False)
    assert len(trainer.started) == 1


async def test_a_run_starts_by_saying_what_was_read(oracle: FakeOracle, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(oracle.described, DescribeDatasetResponse)
    oracle.described.notes.extend(["2 files were left out"])
    document = {"dataset": {"name": "/pets"}, "features": "auto"}
    await run.start(start_request(document, run_id="new", continues=""), watched=False)
    assert capsys.readouterr().out.splitlines() == [
        "4 samples: arrays of 3 values, float32; classes 2: cat, dog; features pixels",
        "2 files were left out",
        "models see the values as they are, because all are of one scale",
        "run new started",
    ]


async def test_a_continued_run_without_a_pool_describes_that_of_the_former(
    trainer: FakeTrainer, oracle: FakeOracle, tmp_path: Path
) -> None:
    gold = csv(tmp_path, "name,class\nd.png,dog\n")
    document = {"dataset": {"sample_limit": 3}, "queue": {"gold": gold}}
    await run.start(start_request(document, run_id="new", continues="r"), watched=False)
    [request], [found] = trainer.started, oracle.finder.requests
    assert request.spec.dataset == DatasetSource(sample_limit=3)
    assert found.dataset == DatasetSource(name="/pets", limit_seed=2, sample_limit=3)


def test_without_data_a_run_asks_for_it() -> None:
    with pytest.raises(InvalidInput, match="labelloop run start pictures/"):
        start_request({"dataset": {}}, run_id="", continues="")


async def test_inspecting_a_pool_says_what_a_run_would_read_and_starts_nothing(
    trainer: FakeTrainer, oracle: FakeOracle, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle.described = DescribeDatasetResponse(
        sample_count=4, classes=PETS, class_counts=[3, 1], dtype="uint8", shape=[28, 28], notes=["a [b] is left out"]
    )
    wanted = start_request({"dataset": {"name": "/pets"}, "features": "auto"}, run_id="", continues="")
    await inspect_pool(wanted, as_json=False)
    said = capsys.readouterr().out
    for line in (
        r"^samples +4, 0 B *$",
        r"^classes +2: cat 3, dog 1 *$",
        r"^features +scattering *$",
        r"^- a \[b\] is left out$",
    ):
        assert re.search(line, said, re.MULTILINE), said
    await inspect_pool(wanted, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["class_counts"], document["features"], document["pool_bytes"]) == ([3, 1], "scattering", 0)
    assert document["memory"] == {"oracle_bytes": 0, "scorer_bytes": 4 * 620 * 4}
    assert not trainer.started


async def test_a_pool_without_classes_can_be_inspected_before_they_are_named(
    oracle: FakeOracle, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle.described = InvalidInput("TOO_FEW_CLASSES", "name at least two in classes", field="dataset.classes")
    await inspect_pool(start_request({"dataset": {"name": "/pets"}}, run_id="", continues=""), as_json=False)
    assert "unknown: name them with --classes" in capsys.readouterr().out
    one = start_request({"dataset": {"name": "/pets", "classes": []}}, run_id="", continues="")
    oracle.described = NotFound("NO_SUCH_FILE", "there is no file or folder '/pets'")
    with pytest.raises(NotFound, match="/pets"):
        await inspect_pool(one, as_json=False)


def request(sample_id: int, name: str, content: bytes, media_type: str = "image/png") -> LabelRequest:
    return LabelRequest(sample_id=sample_id, sample_name=name, content=content, media_type=media_type)


async def test_pictures_that_wait_are_written_as_they_are_beside_a_table_to_fill_in(
    oracle: FakeOracle, tmp_path: Path
) -> None:
    oracle.requests = [request(1, "../b.png", b"one"), request(3, "Käfer.jpg", b"two", "image/jpeg")]
    table, folder = tmp_path / "new" / "to_label.csv", tmp_path / "pictures"
    await open_("r", table, folder)
    text = table.read_bytes().decode("utf-8-sig")
    assert text.splitlines() == ["id,name,class,file", "1,../b.png,,_b.png", "3,Käfer.jpg,,Käfer.jpg"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"_b.png": b"one", "Käfer.jpg": b"two"}


async def test_texts_and_rows_that_wait_are_written_into_the_table(oracle: FakeOracle, tmp_path: Path) -> None:
    oracle.requests = [request(0, "", b'a "b",\nc', "text/plain"), request(1, "", b'{"age": 7}', "application/json")]
    table = tmp_path / "to_label.csv"
    await open_("r", table, None)
    assert table.read_bytes() == b'id,class,text\r\n0,,"a ""b"",\nc"\r\n1,,"{""age"": 7}"\r\n'
    with pytest.raises(InvalidInput, match="leave --images out"):
        await open_("r", table, tmp_path / "pictures")


async def test_files_in_which_classes_are_filled_in_are_not_overwritten(oracle: FakeOracle, tmp_path: Path) -> None:
    oracle.requests = [request(0, "", b"one"), request(1, "", b"two")]
    table = csv(tmp_path, "id,class\n1,cat\n")
    for text in ("id,class\n1,cat\n", "id,class\n2,cat\n", "name;class_name\n\nb.png;cat\n"):
        csv(tmp_path, text)
        with pytest.raises(InvalidInput, match=r"classes are filled in, 1 in all, the first in row [23]; submit it"):
            await open_("r", table, None)
        assert table.read_text() == text
    await open_("r", table, None, replace=True)
    await open_("r", table, None)
    assert table.read_bytes() == b"id,class\r\n0,\r\n1,\r\n"
    table.write_bytes(b"\x89PNG\0")
    with pytest.raises(InvalidInput, match="cannot be read as CSV"):
        await open_("r", table, None)


async def test_other_pictures_and_other_files_are_not_overwritten(
    trainer: FakeTrainer, oracle: FakeOracle, tmp_path: Path
) -> None:
    oracle.requests = [request(1, "b.png", b"one")]
    (tmp_path / "b.png").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match=r"b\.png is there already and is another picture"):
        await open_("r", tmp_path / "new.csv", tmp_path)
    mine = csv(tmp_path, "id,class\n1,cat\n")
    for write in (
        write_labels("r", mine, LabelKind.all),
        write_unlabelled("r", mine),
        write_model("r", mine, 0),
        export_run("r", mine),
        write_report("r", mine, None),
    ):
        with pytest.raises(InvalidInput, match="is not written over"):
            await write
    assert mine.read_text() == "id,class\n1,cat\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
async def test_a_table_as_excel_saves_it_is_submitted_and_says_what_is_left_out(
    trainer: FakeTrainer, oracle: FakeOracle, tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "filled.csv"
    rows = ["sep=;", "ID;Name;CLASS;Notes", "1.0;b.png;cat;schön", "2;;;", ";;;", ";;;", ""]
    table.write_bytes("\r\n".join(rows).encode(encoding))
    await label.submit("r", table, "kim")
    [request] = oracle.sent
    assert [(each.sample_id, each.label) for each in request.labels] == [(1, 0)]
    said = capsys.readouterr()
    assert "1 of 2 rows have no class and are left out" in said.err
    assert ("Windows-1252" in said.err) == (encoding == "cp1252")
    assert "1 labels recorded" in said.out


async def test_labels_that_an_export_repeats_for_equal_samples_are_submitted_once(
    trainer: FakeTrainer, oracle: FakeOracle, tmp_path: Path
) -> None:
    trainer.run.pool.duplicate_count, oracle.finder = 1, FakeFinder(FILES, equal={3: 1})
    await label.submit("r", csv(tmp_path, "name,class\nb.png,cat\nd.png,cat\n"), "kim")
    [request] = oracle.sent
    assert [(each.sample_id, each.label) for each in request.labels] == [(1, 0)]


async def test_dead_letters_name_the_samples_that_they_are_for(
    oracle: FakeOracle, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = ['{"request_id": "r/0/1/0"}', '{"request_id": "odd"}', "no JSON", "[1]", '{"request_id": "r/0/3"}']
    oracle.letters = [DeadLetter(id=f"id{number}", data=data.encode()) for number, data in enumerate(sent)]
    await backlog.show_dead("")
    assert re.findall(r"sample (.*)", capsys.readouterr().out) == ["b.png", "d.png"]
    oracle.finder = FakeFinder([HOSTILE])
    oracle.letters = [DeadLetter(id="id", data=b'{"request_id": "r/0/0/0"}')]
    await backlog.show_dead("")
    assert r"sample \x1b]0;x\x07.png" in capsys.readouterr().out
    oracle.letters = [DeadLetter(id="id", data=b'{"request_id": "r/0/9/0"}')]
    await backlog.show_dead("")
    assert "1 dead letters" in capsys.readouterr().out
