"""Processors of the x86 family, older and newer, whose code a test can run here."""

from __future__ import annotations

import platform

import pytest

binding = pytest.importorskip("llvmlite.binding", reason="the extra llvm is not installed")

from labelloop.runtime.machine_code import Processor  # noqa: E402

X86 = "x86_64-unknown-linux-gnu"
_WIDE = "+avx2,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512cd"
# LLVM's name of a processor, features switched on and off, and what the processor here must have to run the code.
PROCESSORS: dict[str, tuple[str, str, set[str]]] = {
    "SSE2": ("x86-64", "", set()),
    "SSE4.2": ("x86-64-v2", "", {"sse4.2"}),
    "AVX": ("x86-64-v2", "+avx", {"avx"}),
    "AVX2": ("x86-64-v3", "+avx2", {"avx2", "bmi2", "fma"}),
    "AVX2, AVX-512 switched off": (
        "x86-64-v4",
        "+avx2,-avx512f,-avx512bw,-avx512vl,-avx512dq,-avx512cd",
        {"avx2", "bmi2"},
    ),
    "AVX-VNNI": ("x86-64-v3", "+avx2,+avxvnni", {"avxvnni"}),
    "AVX-512": ("x86-64-v4", _WIDE, {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"}),
    "AVX-512 VNNI": ("x86-64-v4", f"{_WIDE},+avx512vnni", {"avx512f", "avx512bw", "avx512vl", "avx512vnni"}),
}


def runnable(name: str) -> Processor:
    """Return one of PROCESSORS; skip the test if its code does not run here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"this processor is {platform.machine()}: it runs no code for x86-64")
    cpu, switches, needed = PROCESSORS[name]
    here = {feature for feature, there in binding.get_host_cpu_features().items() if there}
    if missing := needed - here:
        pytest.skip(f"this processor lacks {', '.join(sorted(missing))}")
    return Processor(X86, cpu, switches)
