"""Decide from what leaders of a stream say whether a message that was read was taken back. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field

from labelloop.eventlog.stream_leaders import Answers, Held

_SAME_FOR_S = 2.0
_ENDS_BEFORE_FOR_S = 10.0


@dataclass
class Verdict:
    """Weighs the leaders' answers about one message that a first answer did not hold as it was read.

    A follower may hand out a message a moment before the leader has applied it, and a node that was cut off takes
    itself for the leader until it notices. Nothing is concluded before all answers agree, and go on doing so.

    Attributes:
        sequence: The message's sequence.
        read: Its subject and data as they were read.
    """

    sequence: int
    read: Held
    _same: tuple[object, ...] = field(default=(), init=False)
    _since_s: float = field(default=0.0, init=False)

    def weigh(self, answers: Answers, now_s: float) -> bool | None:
        """Take the answers of ``now_s``, in seconds of a monotonic clock.

        Returns:
            Whether the message was taken back; None if that is not known yet. It was if for two seconds all leaders
            hold another message or none, and have reached its sequence. If the stream of a cluster ends before it, and
            does not grow, it was after ten seconds.
        """
        if not answers.held or not answers.last_sequences:
            self._same = ()
            return None
        if all(held == self.read for held in answers.held):
            return False
        if any(held == self.read for held in answers.held):
            self._same = ()
            return None
        return self._stays((tuple(answers.held), self._end(answers)), self._needed_s(answers), now_s)

    def _reached(self, answers: Answers) -> bool:
        return min(answers.last_sequences) >= self.sequence or None not in answers.held

    def _end(self, answers: Answers) -> int | None:
        """Return where the stream ends if that is before the message: it may still grow."""
        return None if self._reached(answers) else min(answers.last_sequences)

    def _needed_s(self, answers: Answers) -> float:
        return _SAME_FOR_S if self._reached(answers) or not answers.replicated else _ENDS_BEFORE_FOR_S

    def _stays(self, said: tuple[object, ...], needed_s: float, now_s: float) -> bool | None:
        if said != self._same:
            self._same, self._since_s = said, now_s
        return True if now_s - self._since_s >= needed_s else None
