"""Count words and character n-grams in texts, and choose those that features are made of. Pure functions.

A text is seen twice: as its words, and as its characters between marks for white space. Case is folded letter by
letter, which the exported graph can repeat with a table; whole-string rules of languages cannot be exported.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from labelloop.domain.abandonment import check_wanted, wanted
from numpy.typing import NDArray

Codes = NDArray[np.int64]
OTHER, SPACE, FIRST = 0, 1, 2  # codes: of what is no part of any term, of white space, and the first of the others
WORD_SIZES, CHARACTER_SIZES = (1, 2), (2, 3, 4)
WORD_CHARACTERS_MIN = 2
_SYMBOLS_MAX = 2**15  # so that four codes fit into an int64
_WORDS_MAX = 2**30  # so that two do
_SPELLINGS_MAX = 8  # of one word, as it occurs in texts


@dataclass(frozen=True)
class Terms:
    """Terms of the texts, and how often each text has them.

    Attributes:
        codes: What stands for each symbol (a word or a character as texts have it) that can be part of a term.
        terms: For each size of n-grams, their codes ``[count, size]``; columns count on from size to size.
        text_of: Row of each count.
        term_of: Column of each count.
        counts: How often that text has that term.
    """

    codes: dict[str, int]
    terms: list[Codes]
    text_of: Codes
    term_of: Codes
    counts: Codes

    @property
    def count(self) -> int:
        return sum(map(len, self.terms))


def words_of(texts: Sequence[str], terms_max: int, texts_min: int) -> Terms:
    """Return the words of two or more letters or digits, and the pairs of them, that are in most texts.

    At most ``terms_max``, each of which ``texts_min`` texts have at least.
    """
    pattern = _word_pattern()
    tokens = [pattern.findall(text) for text in wanted(texts)]
    spellings = Counter(word for words in tokens for word in words)
    index_of: dict[str, int] = {}
    code_of = {word: index_of.setdefault(folded(word), len(index_of) + FIRST) for word in spellings}
    if len(index_of) > _WORDS_MAX:
        raise ValueError(f"it has more than {_WORDS_MAX:,} different words")
    sequence = _joined([np.fromiter(map(code_of.__getitem__, words), np.int64, len(words)) for words in wanted(tokens)])
    chosen = _chosen(sequence, len(texts), WORD_SIZES, 2**31, terms_max, texts_min)
    used = set(np.unique(np.concatenate([part.ravel() for part in chosen.terms])).tolist())
    return _with_codes(chosen, _spelled(spellings, code_of, used))


def characters_of(texts: Sequence[str], terms_max: int, texts_min: int) -> Terms:
    """Return the runs of two to four characters within words, white space around them included, in most texts."""
    table = _fold_table()
    points = [np.frombuffer(text.encode("utf-32-le"), "<u4") for text in texts]
    found, counts = np.unique(np.concatenate([table[part] for part in points]), return_counts=True)
    letters = found[np.argsort(-counts, kind="stable")]
    letters = np.sort(letters[letters != SPACE][: _SYMBOLS_MAX - FIRST])
    coded = np.zeros(len(table), np.int64)
    coded[letters] = np.arange(len(letters)) + FIRST
    coded[SPACE] = SPACE  # no text holds this control character as a letter: the table calls all space by it
    edge = np.array([SPACE])
    sequence = _joined([np.concatenate([edge, coded[table[part]], edge]) for part in wanted(points)])
    chosen = _chosen(sequence, len(texts), CHARACTER_SIZES, _SYMBOLS_MAX, terms_max, texts_min)
    used = set(np.unique(np.concatenate([part.ravel() for part in chosen.terms])).tolist())
    folds = np.flatnonzero(np.isin(coded[table], list(used)))  # all cases of each letter
    return _with_codes(chosen, {chr(point): int(coded[table[point]]) for point in folds.tolist()})


def folded(word: str) -> str:
    """Return what is counted as the same word: in lower case, with accents composed."""
    return unicodedata.normalize("NFC", word.lower())


def _spelled(spellings: Counter[str], code_of: dict[str, int], used: set[int]) -> dict[str, int]:
    """Return the code of each spelling of the words ``used``: as texts have them most often, and as they may."""
    seen: Counter[int] = Counter()
    codes: dict[str, int] = {}
    for word, _ in sorted(spellings.items(), key=lambda each: (-each[1], each[0])):
        code = code_of[word]
        if code in used and seen[code] < _SPELLINGS_MAX:
            seen[code] += 1
            codes[word] = code
    for word, code in list(codes.items()):
        for other in (word.lower(), word.upper(), word.capitalize(), folded(word)):
            codes.setdefault(other, code)
    return codes


def _with_codes(terms: Terms, codes: dict[str, int]) -> Terms:
    return Terms(codes, terms.terms, terms.text_of, terms.term_of, terms.counts)


def _joined(sequences: list[Codes]) -> tuple[Codes, Codes]:
    """Return all codes in one array, and the text of each."""
    lengths = [len(sequence) for sequence in sequences]
    return np.concatenate(sequences), np.repeat(np.arange(len(sequences)), lengths)


def _chosen(
    sequence: tuple[Codes, Codes], texts: int, sizes: Sequence[int], base: int, terms_max: int, texts_min: int
) -> Terms:
    """Return the n-grams of these ``sizes`` that most texts have, in order of their codes."""
    found = [_counted(*sequence, size, base) for size in sizes]
    in_texts = [np.bincount(term_of, minlength=len(keys)) for keys, _, term_of, _ in found]
    most_held = _most_held(np.concatenate(in_texts), terms_max, texts_min)
    kept_of = np.split(most_held, np.cumsum([len(keys) for keys, *_ in found])[:-1])
    terms, rows, columns, counts = [], [], [], []
    first = 0
    for size, (keys, text_of, term_of, count), kept in zip(sizes, found, kept_of, strict=True):
        place = first + np.cumsum(kept) - 1
        stays = kept[term_of]
        terms.append(_unpacked(keys[kept], size, base))
        rows.append(text_of[stays])
        columns.append(place[term_of[stays]])
        counts.append(count[stays])
        first += int(kept.sum())
    return Terms({}, terms, np.concatenate(rows), np.concatenate(columns), np.concatenate(counts))


def _most_held(in_texts: Codes, terms_max: int, texts_min: int) -> NDArray[np.bool_]:
    """Mark the ``terms_max`` terms that most texts have, of equal ones the first, if ``texts_min`` texts have them."""
    order = np.argsort(-in_texts, kind="stable")[:terms_max]
    kept = np.zeros(len(in_texts), bool)
    kept[order] = in_texts[order] >= texts_min
    return kept


def _counted(codes: Codes, text_of: Codes, size: int, base: int) -> tuple[Codes, Codes, Codes, Codes]:
    """Count the n-grams of one size.

    Returns:
        The packed n-grams, ascending, and for each pair of a text and an n-gram in it their rows and the count.
    """
    check_wanted()
    count = max(0, len(codes) - size + 1)
    windows = [codes[start : start + count] for start in range(size)]
    usable = text_of[:count] == text_of[size - 1 : size - 1 + count]
    for window in windows:
        usable &= window != OTHER
    for inner in windows[1:-1]:
        usable &= inner != SPACE
    if len(windows) == 2:
        usable &= (windows[0] != SPACE) | (windows[1] != SPACE)
    packed = np.zeros(int(usable.sum()), np.int64)
    for window in windows:
        packed = packed * base + window[usable]
    keys, term_of = np.unique(packed, return_inverse=True)
    pairs, counts = np.unique(text_of[:count][usable] * max(1, len(keys)) + term_of, return_counts=True)
    return keys, *np.divmod(pairs, max(1, len(keys))), counts


def _unpacked(keys: Codes, size: int, base: int) -> Codes:
    digits = [keys // base**power % base for power in range(size - 1, -1, -1)]
    return np.stack(digits, axis=1)


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Return the pattern of words: letters, marks, numbers and underscores; ``\w`` lacks the marks."""
    marks = "".join(chr(point) for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point))[0] == "M")
    return re.compile(rf"[\w{marks}]{{{WORD_CHARACTERS_MIN},}}")


@cache
def _fold_table() -> NDArray[np.int64]:
    """Return for each code point that of its lower case, and ``SPACE`` for white space."""
    table = np.arange(sys.maxunicode + 1)
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        if character.isspace() or point <= SPACE:
            table[point] = SPACE
        elif len(lower := character.lower()) == 1:
            table[point] = ord(lower)
    return table
