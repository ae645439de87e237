"""Write Label Studio labelling configurations for a run's classes, and read existing ones. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from labelloop.domain.class_names import shortened
from labelloop.errors import InvalidInput

TITLE_PREFIX = "labelloop "
_TITLE_CHARACTERS_MAX = 50  # Label Studio's own limit
_SHOWN_WITHOUT_SCROLLING = 20
_NAMED = 5
IMAGE, TEXT = "Image", "Text"


@dataclass(frozen=True)
class Control:
    """A set of choices on an image or a text.

    Attributes:
        name: Its name in results.
        image: The image's or text's name in results.
        key: The image's or text's key in the data of tasks.
        classes: The choices, as results name them.
        shows: The tag of what is shown, ``Image`` or ``Text``.
    """

    name: str
    image: str
    key: str
    classes: tuple[str, ...]
    shows: str = IMAGE


def title_of(run_id: str) -> str:
    """Return the title of a run's project, which no other run's has."""
    title = TITLE_PREFIX + run_id
    if len(title) <= _TITLE_CHARACTERS_MAX:
        return title
    digest = sha256(run_id.encode()).hexdigest()[:12]
    return f"{title[: _TITLE_CHARACTERS_MAX - 13]}~{digest}"


def config_of(classes: Sequence[str], shows: str = IMAGE) -> str:
    """Write a configuration of an image or a text and one choice among ``classes``.

    The first nine have digit hot keys.
    """
    view, shown = Element("View"), shows.lower()
    SubElement(view, shows, name=shown, value=f"${shown}")
    inline = "true" if len(classes) <= _SHOWN_WITHOUT_SCROLLING else "false"
    choices = SubElement(
        view, "Choices", name="label", toName=shown, choice="single", required="true", showInline=inline
    )
    for i, name in enumerate(classes, start=1):
        choice = SubElement(choices, "Choice", value=name)
        if i <= 9:
            choice.set("hotkey", str(i))
    return ElementTree.tostring(view, encoding="unicode")


def find_control(config: str) -> Control | None:
    """Return the first choices on an image or a text in ``config``; None if it has none."""
    try:
        view = ElementTree.fromstring(config)
    except ElementTree.ParseError:
        return None
    shown = {tag.get("name", ""): tag for kind in (IMAGE, TEXT) for tag in view.iter(kind)}
    for choices in view.iter("Choices"):
        name = choices.get("toName", "")
        if name in shown and (value := shown[name].get("value", "")).startswith("$"):
            classes = tuple(tag.get("alias") or tag.get("value") or "" for tag in choices.iter("Choice"))
            return Control(choices.get("name", ""), name, value[1:], classes, shown[name].tag)
    return None


def check_classes(control: Control | None, classes: Sequence[str], project_id: int) -> Control:
    """Return the control. Raises InvalidInput if there is none, or it lacks one of ``classes``."""
    if control and not (fault := classes_fault(control, classes, project_id)):
        return control
    if control is None:
        fault = (
            f"the labelling configuration of Label Studio's project {project_id} has no choices on an image or a text: "
            "add them there, or leave LABELLOOP_LABEL_STUDIO_PROJECT unset and have a project made for each run"
        )
    raise InvalidInput("LABEL_CONFIG", fault, field="project", project=project_id)


def classes_fault(control: Control, classes: Sequence[str], project_id: int) -> str:
    """Say which of a run's classes the control does not offer and what to do; empty if it offers all."""
    missing = [name for name in classes if name not in control.classes]
    if not missing:
        return ""
    others = [name for name in control.classes if name not in classes]
    fault = (
        f"the labelling configuration of Label Studio's project {project_id} lacks {_listed(missing)} as choices: "
        "add them there"
    )
    if not others:
        return fault
    old, new = shortened(missing[0]), shortened(others[0])
    return (
        f"{fault}. It offers {_listed(others)} instead: where one of these is a class that was renamed, give its "
        f'choice the old name as its alias, as in <Choice value="{new}" alias="{old}"/>, and take over what was '
        f"labelled meanwhile with `labelloop label replay --class '{new}={old}'`"
    )


def _listed(names: Sequence[str]) -> str:
    """Name the first few of a list for people."""
    listed = ", ".join(repr(shortened(name)) for name in names[:_NAMED])
    return listed if len(names) <= _NAMED else f"{listed} and {len(names) - _NAMED} more"
