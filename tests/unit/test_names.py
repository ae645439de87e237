"""Names that are refused, whatever they name."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.domain.names import name_fault, prose_fault, sound_name
from labelloop.errors import InvalidInput

from tests.bad_names import BAD_NAMES

GOOD_NAMES = [
    "ada",
    "Zoë Müller-Lüdenscheidt",
    "李小龍",
    "می\u200cخواهم",  # a Persian word with a joiner
    "क्\u200dष",
    "\U0001f469\u200d\U0001f52c",  # a woman scientist
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "=SUM(A1)",
    "a/b.png",
    "x" * TEXT_CHARACTERS_MAX,
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_of_all_scripts_are_taken(name: str) -> None:
    assert name_fault(name) == ""
    assert sound_name(f" {name} ", "name") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_that_are_not_what_they_look_like_are_refused(name: str) -> None:
    assert name_fault(name)
    with pytest.raises(InvalidInput) as refused:
        sound_name(name, "annotator")
    assert (refused.value.reason, refused.value.field) == ("BAD_NAME", "annotator")
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
@pytest.mark.parametrize("form", ["{}a", "a{}", "a{}b", "é{}b", "{}é", "é{}", "é{}{}é"])
def test_joiners_are_refused_where_they_join_nothing(form: str, joiner: str) -> None:
    assert "invisible" in name_fault(form.replace("{}", joiner))


def test_prose_has_lines_and_nothing_else_that_is_refused() -> None:
    assert prose_fault("blurred\n\tsecond line\r\n", 100) == ""
    assert prose_fault("a\x1b[2J", 100)
    assert prose_fault("x" * 101, 100)
    assert name_fault("a\nb")


@given(st.text(st.characters(), max_size=30))
def test_a_sound_name_has_no_character_that_is_refused(text: str) -> None:
    if not name_fault(text):
        assert not {unicodedata.category(each) for each in text} & {"Cc", "Cs", "Zl", "Zp"}
        text.encode()
