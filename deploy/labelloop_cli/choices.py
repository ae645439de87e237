"""Enumerate the values that command-line options accept."""

from __future__ import annotations

from enum import StrEnum


class StrategyName(StrEnum):
    random = "random"
    least_confidence = "least-confidence"
    margin = "margin"
    entropy = "entropy"
    clustered_margin = "clustered-margin"
    badge = "badge"
    typiclust = "typiclust"
    k_means = "k-means"
    density = "density"
    power_margin = "power-margin"
    k_center = "k-center"


class FirstName(StrEnum):
    k_means = "k-means"
    typiclust = "typiclust"
    k_center = "k-center"
    random = "random"
    in_order = "in-order"


class FeaturesName(StrEnum):
    auto = "auto"
    pixels = "pixels"
    patches = "patches"
    scattering = "scattering"
    standardized = "standardized"
    tfidf = "tfidf"


class FitName(StrEnum):
    pad = "pad"
    crop = "crop"
    stretch = "stretch"


class ProtocolName(StrEnum):
    honest = "honest"
    published = "published"


class LabelSourceName(StrEnum):
    dataset = "dataset"
    queue = "queue"
    people = "people"


class AgreementName(StrEnum):
    majority = "majority"
    dawid_skene = "dawid-skene"


class LabelKind(StrEnum):
    all = "all"
    labels = "labels"
    auto_labels = "auto-labels"


class SortKey(StrEnum):
    started = "started"
    changed = "changed"
    name = "name"
    labels = "labels"
    accuracy = "accuracy"
