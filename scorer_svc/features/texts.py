"""Learn features of texts from a pool without any label: weighted counts of terms, reduced to fewer dimensions.

Counts of words and of character n-grams are damped, weighted by how rare their terms are (TF-IDF: Spaerck Jones 1972),
and projected onto the directions along which the texts vary most (latent semantic analysis: Deerwester and others
1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from labelloop.domain.abandonment import check_wanted

from scorer_svc.features.text_onnx import Block, text_graph
from scorer_svc.features.text_terms import Terms, characters_of, words_of
from scorer_svc.numerics.blas_threads import one_thread

DIMENSIONS_MAX = 300
_TERMS_MAX = 10_000  # of each kind: the graph holds a float32 for each of them and each dimension
_FEW_TEXTS = 20
_PASSES = 3  # of the randomised decomposition
_SMALLEST = 1e-6  # of the largest singular value: float32's rounding of none
_LENGTH = 20.0  # root mean square length of a text's features, as for images


def learn_texts(texts: Sequence[str], seed: int) -> bytes:
    """Learn from texts ``[n]`` and return the ONNX graph from strings ``[n]`` to features ``[n, at most 300]``.

    The same for the same texts and seed on one kind of processor. ValueError if they have no terms in common.
    """
    from scipy.sparse import hstack  # comes with scikit-learn; most scorers never need it
    from sklearn.utils.extmath import randomized_svd

    texts_min = 2 if len(texts) >= _FEW_TEXTS else 1
    blocks = [_block(find(texts, _TERMS_MAX, texts_min), len(texts)) for find in (words_of, characters_of)]
    present = [each for each in blocks if each]
    if not present:
        raise ValueError("its texts have no words or characters in common")
    matrix = hstack([weighted for _, weighted in present]).tocsr().astype(np.float32)
    check_wanted()
    dimensions = min(DIMENSIONS_MAX, *matrix.shape)
    with one_thread():
        _, values, directions = randomized_svd(matrix, dimensions, n_iter=_PASSES, random_state=seed % 2**32)
    kept = values > _SMALLEST * max(values[0], _SMALLEST)
    length = np.sqrt((values[kept] ** 2).sum() / len(texts))
    components = np.ascontiguousarray(directions[kept].T * (_LENGTH / length), np.float32)
    words, characters = (each and each[0] for each in blocks)
    return text_graph(words, characters, components)


def _block(terms: Terms, texts: int) -> tuple[Block, Any] | None:
    """Return the terms with their weights, and the texts in them, ``[texts, terms]`` sparse; None without any."""
    from scipy.sparse import csr_matrix

    if not terms.count:
        return None
    in_texts = np.bincount(terms.term_of, minlength=terms.count)
    weights = (np.log((1 + texts) / (1 + in_texts)) + 1).astype(np.float32)
    values = (1 + np.log(terms.counts)) * weights[terms.term_of]
    lengths = np.sqrt(np.bincount(terms.text_of, values**2, minlength=texts))
    matrix = csr_matrix((values / lengths[terms.text_of], (terms.text_of, terms.term_of)), (texts, terms.count))
    return Block(terms, weights), matrix
