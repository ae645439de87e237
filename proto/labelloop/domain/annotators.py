"""Track who is who among a run's annotators, and who was removed, folded from ``annotators_changed``. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from labelloop.domain.limits import ANNOTATOR_CHANGES_MAX
from labelloop.events.v1.events_pb2 import AnnotatorsChanged


@dataclass(frozen=True)
class Removal:
    """How somebody was removed.

    Attributes:
        by: Who said so; empty if nobody in particular did.
        withdraw: Whether their results are withdrawn too.
    """

    by: str
    withdraw: bool


@dataclass
class Annotators:
    """The people behind the names of a run's annotators.

    A person's identity is the one of their names that the others were declared to be aliases of; without a
    declaration, each name is a person.

    Attributes:
        changes: Number of changes so far.
        removed: How each person who was removed was removed, by identity.
    """

    changes: int = 0
    removed: dict[str, Removal] = field(default_factory=dict)
    _identities: dict[str, str] = field(default_factory=dict)  # of aliases alone
    _names: dict[str, set[str]] = field(default_factory=dict)  # of people with several names, by identity

    def identity_of(self, name: str) -> str:
        """Return the identity of the person with that name."""
        return self._identities.get(name, name)

    def names_of(self, name: str) -> set[str]:
        """Return all names of the person with that name."""
        identity = self.identity_of(name)
        return self._names.get(identity, {identity})

    def has_several_names(self, name: str) -> bool:
        return self.identity_of(name) in self._names

    @property
    def declared(self) -> set[str]:
        """Identities of people with several names, or who were removed."""
        return {*self._names, *self.removed}

    def removal_of(self, name: str) -> Removal | None:
        """Return how the person with that name was removed; None if they take part."""
        return self.removed.get(self.identity_of(name))

    def fault(self, changed: AnnotatorsChanged) -> str:
        """Explain why a change cannot come next; empty if it can."""
        if changed.number != self.changes:
            return f"the next change of its annotators is number {self.changes}"
        if changed.number >= ANNOTATOR_CHANGES_MAX:
            return "its annotators were changed too often"
        names = (changed.alias.name, changed.alias.same_as) if changed.HasField("alias") else ()
        return "it gives another name to somebody who was removed" if any(map(self.removal_of, names)) else ""

    def has_effect(self, changed: AnnotatorsChanged) -> bool:
        """Return whether a change without fault changes anything."""
        match changed.WhichOneof("change"):
            case "alias" if changed.alias.name == changed.alias.same_as:
                return changed.alias.name in self._identities
            case "alias":
                return self.identity_of(changed.alias.name) != self.identity_of(changed.alias.same_as)
            case "removal":
                before = self.removal_of(changed.removal.name)
                return before is None or (changed.removal.withdraw and not before.withdraw)
        return self.removal_of(changed.restored) is not None

    def apply(self, changed: AnnotatorsChanged) -> None:
        """Apply a change that has no fault."""
        self.changes += 1
        match changed.WhichOneof("change"):
            case "alias" if changed.alias.name == changed.alias.same_as:
                self._part(changed.alias.name)
            case "alias":
                self._join(changed.alias.name, changed.alias.same_as)
            case "removal":
                removal = Removal(changed.changed_by, changed.removal.withdraw)
                self.removed[self.identity_of(changed.removal.name)] = removal
            case _:
                self.removed.pop(self.identity_of(changed.restored), None)

    def _join(self, name: str, same_as: str) -> None:
        before, identity = self.identity_of(name), self.identity_of(same_as)
        if before == identity:
            return
        joined = self.names_of(before)
        self._names[identity] = self.names_of(identity) | joined
        self._names.pop(before, None)
        self._identities.update(dict.fromkeys(joined, identity))

    def _part(self, alias: str) -> None:
        identity = self._identities.pop(alias, alias)
        if identity == alias:
            return
        others = self.names_of(identity) - {alias}
        self._names[identity] = others
        if len(others) == 1:
            del self._names[identity]
