"""Texts of three topics, made of words that topics share and words that they prefer."""

from __future__ import annotations

import numpy as np

TOPICS = {
    "market": ["shares", "banks", "oil", "profit", "investors", "market", "price", "trade", "dollar", "growth"],
    "sport": ["team", "goal", "coach", "match", "season", "players", "win", "league", "stadium", "cup"],
    "погода": ["дождь", "ветер", "снег", "температура", "облака", "гроза", "мороз", "туман", "жара", "солнце"],
}
_COMMON = ["the", "of", "and", "a", "in", "to", "is", "was", "for", "on", "with", "as", "by", "at", "from", "that"]
_OWN_SHARE = 0.15


def texts_about(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts of 6 to 40 words, and the topic of each: one word in seven is its topic's own."""
    rng = np.random.default_rng(seed)
    topics = list(TOPICS)
    made = []
    for _ in range(count):
        topic = topics[rng.integers(len(topics))]
        own = rng.random(rng.integers(6, 41)) < _OWN_SHARE
        own[rng.integers(len(own))] = True
        words = [str(rng.choice(TOPICS[topic] if each else _COMMON)) for each in own]
        made.append((f"{' '.join(words).capitalize()}.", topic))
    return made
