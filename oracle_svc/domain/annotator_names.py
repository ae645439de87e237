"""Keep the names that a run's log gives to the annotators of its tool, by the tool's own ids. No I/O.

A tool's account may get another name, or be deleted. Within a run an annotator keeps the name under which the log has
them first, so that two names are never taken for two people.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AnnotatorNames:
    """The annotators of one run.

    Attributes:
        by_id: The first name of each id.
        ids: The id of each name; empty for names that came without one, as in logs of earlier releases.
    """

    by_id: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def note(self, annotator: str, annotator_id: str) -> None:
        """Note that a result in the log names its annotator so."""
        if not annotator:
            return
        self.ids[annotator] = self.ids.get(annotator) or annotator_id
        if annotator_id:
            self.by_id.setdefault(annotator_id, annotator)

    def name_of(self, annotator_id: str, shown: str) -> str:
        """Return the annotator's name in this run: the log's, else ``shown`` unless it is somebody else's."""
        if known := self.by_id.get(annotator_id):
            return known
        return shown if self.ids.get(shown, "") in ("", annotator_id) else f"{shown} ({annotator_id})"
