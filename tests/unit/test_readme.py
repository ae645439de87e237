"""Pages show the programs and the permissions that are tested."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_annotator_on_the_page_is_the_one_that_is_tested() -> None:
    annotator = (ROOT / "tests/queues/example_annotator.py").read_text().strip()
    assert f"```python\n{annotator}\n```" in (ROOT / "oracle_svc/docs/integrations.md").read_text()
    assert len(annotator.splitlines()) <= 40


def test_the_program_on_the_front_page_is_the_one_that_is_tested() -> None:
    program = (ROOT / "deploy/examples/label_from_python.py").read_text().strip()
    assert f"```python\n{program}\n```" in (ROOT / "README.md").read_text()
    assert len(program.splitlines()) <= 10  # "ten lines"


def test_the_calls_of_tritonclient_on_the_page_are_those_that_are_tested() -> None:
    program = (ROOT / "deploy/examples/ask_by_tritonclient.py").read_text().strip()
    assert f"```python\n{program}\n```" in (ROOT / "scorer_svc/docs/inference.md").read_text()


def test_the_permissions_on_the_page_are_those_that_are_tested() -> None:
    permissions = (ROOT / "tests/queues/foreign/annotator.conf").read_text().strip()
    assert f"```\n{permissions}\n```" in (ROOT / "oracle_svc/docs/integrations.md").read_text()
