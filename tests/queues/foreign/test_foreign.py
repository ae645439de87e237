"""Programs in other languages, written from the published schemas and pages, label whole runs.

They know the samples by their content alone: a label that stands at another sample than the one they saw is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
import pytest

from oracle_svc.samples.encoding import picture_of
from tests.blobs import write_blobs
from tests.ports import free_port
from tests.queues.foreign.programs import ANNOTATOR, Command, ForeignTool, foreign_tool, go, node
from tests.queues.test_faults import RUN, Campaign, started, until
from tests.queues.tool import Tool

pytestmark = pytest.mark.timeout(1_200)
LINKS = ", samples as links"


@pytest.fixture(params=[node, go], ids=["node", "go"])
def command(request: pytest.FixtureRequest) -> Command:
    found: Command = request.param
    return found


@pytest.fixture
async def campaign(
    request: pytest.FixtureRequest,
    command: Command,
    tmp_path: Path,
    nats_binary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Campaign]:
    port = free_port()

    def start(folder: Path) -> AbstractAsyncContextManager[Tool]:
        name = request.param.removesuffix(LINKS)
        return foreign_tool(name, command, folder, port, links=name != request.param)

    async with started(start, tmp_path, monkeypatch, port) as made:
        yield made


def tool_of(campaign: Campaign) -> ForeignTool:
    """Return the program, with the right class of each sample."""
    tool = campaign.tool
    assert isinstance(tool, ForeignTool)
    samples = np.load(write_blobs(campaign.crash_at.parent).samples)
    tool.classes = {picture_of(each).sha256: str(label) for each, label in zip(samples, campaign.truth, strict=True)}
    assert len(tool.classes) == len(samples), "no two samples look the same"
    return tool


@pytest.mark.parametrize("campaign", ["webhook", f"webhook{LINKS}", "nats", f"nats{LINKS}"], indirect=True)
async def test_a_foreign_program_labels_a_whole_run(campaign: Campaign) -> None:
    tool = tool_of(campaign)
    await tool.begin(campaign.stack, RUN)
    await campaign.begin()
    await until(campaign.is_over)
    campaign.asked = tool.answered
    await campaign.check_end()
    assert {record.annotator for record in await campaign.clients.labels(RUN)} == {ANNOTATOR}
    assert [each for each in tool.said if "request_id" in each and "problem" in each] == []

    async def are_told() -> bool:
        return len(tool.verdicts) >= len(tool.answered)

    await until(are_told)
    assert set(tool.verdicts) == {"VERDICT_RECORDED"}


@pytest.mark.parametrize("campaign", ["webhook", "nats"], indirect=True)
async def test_a_foreign_program_that_cannot_tell_skips(campaign: Campaign) -> None:
    tool = tool_of(campaign)
    tool.classes = {digest: name for digest, name in tool.classes.items() if name != "0"}
    await tool.begin(campaign.stack, RUN)
    await campaign.begin()
    await until(campaign.is_over)
    campaign.asked = tool.answered
    await campaign.check_end()
    status = await campaign.status()
    assert status.samples_skipped == len(tool.answered) - status.labels_paid > 0
