"""The page of settings is current, and lists and describes each setting."""

from __future__ import annotations

import ast
from pathlib import Path

import configuration
import pytest
from configuration import SECTIONS, Undescribed, description, rows
from labelloop.settings import ServiceSettings
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).parents[2]
FOLDERS = ("proto/labelloop", "trainer_svc", "scorer_svc", "oracle_svc", "deploy/labelloop_cli")


class Documented(BaseSettings):
    """Settings described in their docstring.

    Attributes:
        size: The size,
            in bytes.
        token: The secret.

    Nothing else:
        other: Is no setting.
    """

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")

    size: int = Field(3, gt=0, le=9)
    token: SecretStr | None = Field(None, min_length=8)


class Extended(Documented):
    size: int = 4
    mode: str = Field("a|b", description="how it works")


def settings_classes() -> set[str]:
    """Names of the classes that derive from a settings class, read from the code."""
    bases = {"BaseSettings", "ServiceSettings"}
    trees = [ast.parse(path.read_text()) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in bases for base in node.bases)
    }


def test_the_page_is_current() -> None:
    assert configuration.committed() == configuration.generated(), "run `python deploy/configuration.py`"


def test_every_settings_class_has_a_table() -> None:
    assert {section.kind.__name__ for section in SECTIONS} == settings_classes()


def test_every_variable_is_listed_on_the_page() -> None:
    page = configuration.generated()
    for section in SECTIONS:
        assert not [row[0] for row in rows(section.kind) if f"| {row[0]} |" not in page]


def test_a_row_has_variable_type_default_range_and_description() -> None:
    assert list(rows(Documented)) == [
        ("`EXAMPLE_SIZE`", "integer", "`3`", "> 0, ≤ 9", "The size, in bytes."),
        ("`EXAMPLE_TOKEN`", "secret", "none", "at least 8 characters", "The secret."),
    ]


def test_a_subclass_inherits_descriptions_and_may_give_its_own() -> None:
    assert description(Extended, "size") == "The size, in bytes."
    assert description(Extended, "mode") == "how it works"


def test_a_setting_without_a_description_is_an_error() -> None:
    class Silent(ServiceSettings):
        speed: int = 1

    with pytest.raises(Undescribed, match=r"Silent\.speed: add a description"):
        list(rows(Silent))


def test_a_description_of_an_unknown_setting_is_an_error() -> None:
    class Renamed(BaseSettings):
        """Settings.

        Attributes:
            old_name: The name.
        """

        new_name: str = Field("", description="the name")

    with pytest.raises(Undescribed, match="there is no setting old_name"):
        list(rows(Renamed))


def test_check_fails_for_a_page_that_is_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "PAGE", tmp_path / "docs" / "configuration.md")
    monkeypatch.setattr("sys.argv", ["configuration.py", "--check"])
    with pytest.raises(SystemExit, match=r"run `python deploy/configuration\.py`"):
        configuration.main()
    monkeypatch.setattr("sys.argv", ["configuration.py"])
    configuration.main()
    monkeypatch.setattr("sys.argv", ["configuration.py", "--check"])
    configuration.main()
