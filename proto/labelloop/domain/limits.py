"""Define the limits on events and requests, and the values that some of their fields may take."""

from __future__ import annotations

from labelloop.events.v1.events_pb2 import FeatureKind, SkipKind

COUNT_MAX = 2**31 - 1
TEXT_DTYPE = "utf8"  # of pools of texts, where others have the name of a NumPy type
ANNOTATORS_MAX = 25  # per sample
RESOLUTION_VERSION = 1  # of the rules by which several answers become a label in runs that start now
ANNOTATOR_CHANGES_MAX = 10_000  # aliases, removals and restorals of a run's annotators
AUDIT_MAX = 50_000  # in one event; the broker accepts a megabyte
BY_CLASS_MAX = 1_000  # classes; of more, the log records no accuracy of each
KAPPA = 0.99  # two models agree from this value on
# Models see these, not the samples.
LEARNED = {
    FeatureKind.FEATURE_KIND_PATCHES,
    FeatureKind.FEATURE_KIND_SCATTERING,
    FeatureKind.FEATURE_KIND_GRAPH,
    FeatureKind.FEATURE_KIND_STANDARDIZED,
    FeatureKind.FEATURE_KIND_TFIDF,
}
LEARN_FROM_SAMPLES = 20_000  # of a pool, drawn at random: more do not improve the features
LEARN_FROM_CHARACTERS = 5_000_000  # of texts: half a minute of one core
PATCH_FEATURES = 1_800  # that patches make of a sample
SCATTERING_FEATURES = 620  # that scattering makes of a sample, at most
OPTIONAL_COLUMNS = (
    "labelloop.optional_columns"  # in a feature graph's metadata: how many of the last a fit may leave out
)
SKIP_KINDS = {SkipKind.SKIP_KIND_SKIPPED, SkipKind.SKIP_KIND_REJECTED}  # reasons an annotator may give
CONTROL_PERCENT_MAX = 50
TEXT_CHARACTERS_MAX = 200
COMMENT_CHARACTERS_MAX = 1_000
GUIDELINES_BYTES_MAX = 64 * 1024  # in UTF-8; the event of a start holds them
TOKEN_CHARACTERS_MIN = 8  # of the secret that opens the page
ARCHIVES_MAX = 1_000_000  # times that a run may be archived
