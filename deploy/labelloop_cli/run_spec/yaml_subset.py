"""Load and dump the part of YAML that a run spec needs: text, numbers, true and false, lists and sections.

Words are read as YAML 1.2 has them: ``no`` is text. Anchors and tags are refused, because a small file with anchors can
expand without limit, and tags ask for types that a spec does not have.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", [*"-+0123456789"]),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", [*"-+.0123456789"]),
}


class Loader(yaml.SafeLoader):
    """A loader without anchors, tags and repeated names."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if event.anchor:
            raise ComposerError(None, None, "a spec has no anchors (&, *): write the value again", mark)
        if event.tag:
            raise ComposerError(None, None, "a spec has no tags (!): leave it out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"{key.value} is there twice: remove one", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """A dumper that quotes text which the loader would take for something else."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Represent text, in double quotes if it holds characters that YAML takes for line breaks outside of them."""
    style = None if text.isprintable() else '"'
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


Dumper.add_representer(str, _text)

for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
