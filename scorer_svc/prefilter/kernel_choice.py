"""Choose how this process ranks: with a first pass by the integer kernel, or with the model alone.

Both give the same samples, order and numbers. With the kernel, a ranking by softmax regression takes less than half
of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import structlog
from labelloop.observability import metrics
from prometheus_client.core import Metric

from scorer_svc.prefilter.integer_kernel import Compiler, Unavailable, machine_code
from scorer_svc.prefilter.linear_head import LinearSoftmax
from scorer_svc.prefilter.prefilter import Prefilter, prefilter

_INSTALL = "pip install 'labelloop[llvm]'"

log = structlog.get_logger()


def _llvmlite_is_installed() -> bool:
    return find_spec("llvmlite") is not None


class PrefilterFactory:
    """Makes the prefilters of models for as long as kernels can be compiled.

    ``problem`` says why none can: llvmlite is not installed, or it failed. A failure is not retried, since the next
    model would fail too.
    """

    def __init__(
        self, compiler: Compiler = machine_code, installed: Callable[[], bool] = _llvmlite_is_installed
    ) -> None:
        self._compiler = compiler
        self.problem = "" if installed() else "llvmlite is not installed"

    def announce(self) -> None:
        """Log how this process ranks, and export it as a metric for the lifetime of this object."""
        metrics.watch(self, kernel_in_use)
        if self.problem:
            log.info(
                "prefilter_unavailable",
                action="rankings score every sample with the model",
                why=self.problem,
                faster_with=_INSTALL,
            )
        else:
            log.info("prefilter_ready")

    def of(self, linear: LinearSoftmax | None) -> Prefilter | None:
        """Return the prefilter of ``linear``; None if it would not pay, or if no kernel can be compiled."""
        if self.problem:
            return None
        try:
            return prefilter(linear, self._compiler)
        except Unavailable as error:
            self.problem = str(error)
            log.warning("prefilter_switched_off", action="rankings score every sample with the model", why=self.problem)
            metrics.set_down_computed()
            return None


def kernel_in_use(prefilters: PrefilterFactory) -> Iterator[Metric]:
    text = "1 for what rankings by softmax regression use: the integer kernel, or the model alone."
    yield metrics.gauge(
        "labelloop_ranking_kernel_info", text, "kernel", {"none" if prefilters.problem else "integer": 1.0}
    )
