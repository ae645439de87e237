"""The names of a tool's annotators in a run."""

from __future__ import annotations

from oracle_svc.domain.annotator_names import AnnotatorNames


def test_an_annotator_keeps_the_first_name() -> None:
    names = AnnotatorNames()
    names.note("old@example.com", "tool:1")
    names.note("new@example.com", "tool:1")
    assert names.name_of("tool:1", "newer@example.com") == "old@example.com"


def test_another_account_with_a_known_name_gets_a_name_of_its_own() -> None:
    names = AnnotatorNames()
    names.note("kim@example.com", "tool:1")
    assert names.name_of("tool:2", "kim@example.com") == "kim@example.com (tool:2)"


def test_a_name_without_an_id_is_that_of_the_account_with_this_name() -> None:
    names = AnnotatorNames()
    names.note("kim@example.com", "")
    assert names.name_of("tool:1", "kim@example.com") == "kim@example.com"
    names.note("kim@example.com", "tool:1")
    assert names.name_of("tool:2", "kim@example.com") == "kim@example.com (tool:2)"
