"""Check which extras of labelloop are installed, as by ``pip install 'labelloop[trainer]'``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from labelloop.errors import WrongState
from packaging.requirements import Requirement

SERVICES = {
    "trainer": "trains models",
    "scorer": "ranks pools",
    "oracle": "reads datasets and gets labels",
}
OPTIONAL = {
    "llvm": "faster rankings and fits",
    "amqp": "a queue of requests in RabbitMQ",
    "sqs": "a queue of requests in Amazon SQS",
    "s3": "artifacts and pools in S3",
    "parquet": "exports as Parquet",
    "digits": "5,000 digits where MNIST cannot be downloaded",
}

Installed = Callable[[str], "str | None"]
"""Returns the version of a distribution, or None if it is not installed."""


class Extras:
    """Requirements of each extra, from a distribution's metadata.

    Attributes:
        checkout: Clone of the repository that the command runs from; None for an installed wheel.
    """

    def __init__(self, requires: Sequence[str], installed: Installed, checkout: Path | None = None) -> None:
        self._requirements = [Requirement(line) for line in requires]
        self._installed, self.checkout = installed, checkout

    def knows(self, extra: str) -> bool:
        """Return whether any requirement belongs to ``extra``."""
        return any(True for _ in self._of(extra, base=False))

    def missing(self, extra: str = "") -> list[str]:
        """List distributions without a fitting version here that ``extra``, or by default the command, requires."""
        if extra and not self.knows(extra):
            return [f"labelloop with an extra {extra}"]
        return sorted({each.name for each in self._of(extra, base=not extra) if not self._fits(each)})

    def advice(self, *extras: str) -> str:
        """Return how to install the extras, or the command if none is given."""
        if self.checkout:
            return "run `make setup`"
        return f"pip install 'labelloop[{','.join(extras)}]'" if extras else "pip install labelloop"

    def _of(self, extra: str, *, base: bool) -> Iterator[Requirement]:
        for each in self._requirements:
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                if base:
                    yield each
            elif each.marker.evaluate({"extra": extra}):
                yield each
                if each.name == "labelloop":
                    for inner in each.extras:
                        yield from self._of(inner, base=False)

    def _fits(self, requirement: Requirement) -> bool:
        version = self._installed(requirement.name)
        return version is not None and requirement.specifier.contains(version, prereleases=True)


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def extras_here(distribution: str = "labelloop") -> Extras:
    """Read the extras of an installed distribution. Raises WrongState if the distribution is not installed."""
    try:
        requires = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise WrongState("NOT_INSTALLED", f"{distribution} itself is not installed") from error
    return Extras(requires, installed_version, _checkout())


def _checkout() -> Path | None:
    root = Path(__file__).resolve().parents[2]
    return root if (root / "Makefile").is_file() and (root / "pyproject.toml").is_file() else None


def check_installed(*services: str, extras: Extras | None = None) -> None:
    """Raise WrongState if the libraries of one of ``services`` are not installed."""
    extras = extras or extras_here()
    lacking = {service: missing for service in services if (missing := extras.missing(service))}
    if lacking:
        lists = "; ".join(f"the {service} lacks {', '.join(missing)}" for service, missing in lacking.items())
        message = f"not all services are installed: {lists}. To install them: {extras.advice(*lacking)}"
        raise WrongState("EXTRA_MISSING", message, extras=",".join(lacking))
