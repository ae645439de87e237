"""Find the samples of an earlier pool in a dataset, by content and name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches

from labelloop.artifacts.formats import sample_digest
from labelloop.domain.class_names import comparable
from labelloop.errors import NotFound, WrongState

from .dataset import Dataset
from .parts import parts_of

NAMES_COMPARED = 10_000  # for a suggestion


def found_ids(sample_ids: Sequence[int], digests: Sequence[bytes], names: Sequence[str], dataset: Dataset) -> list[int]:
    """Return where samples of an earlier pool are in ``dataset``, each at another place.

    A sample is recognised by its bytes. Of several that are equal, the one of the same name is taken, then the one in
    the same place, then the first that is left.

    Args:
        sample_ids: Their ids in the earlier pool.
        digests: The digest of each; see :func:`sample_digest`.
        names: The name of each, empty for none.
        dataset: Where to look.

    Raises:
        WrongState: One is missing, or a sample of its name has other content.
    """
    places = _places(dataset, set(digests))
    of_name = {name: place for place, name in enumerate(dataset.names)}
    found = []
    for sample_id, digest, name in zip(sample_ids, digests, names, strict=True):
        free = places[digest]
        if not free:
            raise _missing(sample_id, name, dataset.name, is_changed=name in of_name)
        wanted = (place for place in (of_name.get(name, -1), sample_id) if place in free)
        place = next(wanted, None)
        place = next(iter(free)) if place is None else place
        del free[place]
        found.append(place)
    return found


def _places(dataset: Dataset, wanted: set[bytes]) -> defaultdict[bytes, dict[int, None]]:
    """Return the places of the samples whose digests are wanted, in ascending order."""
    places: defaultdict[bytes, dict[int, None]] = defaultdict(dict)
    samples, files = (sample for part in parts_of(dataset.samples) for sample in part), dataset.files
    for place, sample in enumerate(samples):
        digest = sample_digest(sample, files[place] if files else "")
        if digest in wanted:
            places[digest][place] = None
    return places


def _missing(sample_id: int, name: str, dataset: str, *, is_changed: bool) -> WrongState:
    called = f"{name!r} (sample {sample_id})" if name else f"sample {sample_id}"
    why = "has other content now" if is_changed else f"is not in {dataset}"
    message = f"{called} has a label from the run to continue, but {why}: bring it back, or start without --continues"
    return WrongState("DATASET_CHANGED", message, field="continues", sample_id=sample_id)


def ids_of(names: Sequence[str], pool: Sequence[str]) -> list[int]:
    """Return the ids of samples by their names.

    Names are compared as they are, then in NFC and without spaces around them, because people type and copy them.

    Args:
        names: The names to find.
        pool: The name of each sample, index = id.

    Raises:
        NotFound: For the first unknown one, with a near match.
    """
    wanted, alike = {*names}, {comparable(name) for name in names}
    exact = {name: sample_id for sample_id, name in enumerate(pool) if name in wanted}
    near: dict[str, int] = {}
    if len(exact) < len(wanted):
        near = {like: sample_id for sample_id, name in enumerate(pool) if (like := comparable(name)) in alike}
    found = []
    for name in names:
        sample_id = exact.get(name, near.get(comparable(name)))
        if sample_id is None:
            raise unknown_name(name, pool[:NAMES_COMPARED])
        found.append(sample_id)
    return found


def unknown_name(name: str, known: Sequence[str]) -> NotFound:
    """Return the error for a name that the pool lacks, with a near match among ``known``."""
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return NotFound("UNKNOWN_NAME", f"the pool has no sample {name!r}{hint}", field="names", name=name)
