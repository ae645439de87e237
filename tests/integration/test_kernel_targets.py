"""Code compiled for other processors than this one: kernels and steps of fits are right."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scorer_svc.models.model import Model
from scorer_svc.prefilter.integer_kernel import GROUP, PRODUCTS, Code, is_exact
from scorer_svc.prefilter.linear_head import linear_softmax
from scorer_svc.row_kernel.kernel import RowKernel, agrees
from tests.unit.kernels import SIZES, array_at
from trainer_svc.model.fused_step import CLASSES_MAX, StepFunctions, is_right
from trainer_svc.model.onnx_export import to_onnx

binding = pytest.importorskip("llvmlite.binding", reason="the extra llvm is not installed")

from labelloop.runtime.machine_code import Processor  # noqa: E402

from scorer_svc.prefilter.machine_code import compiled, object_file  # noqa: E402
from scorer_svc.row_kernel import machine_code as row_code  # noqa: E402
from trainer_svc.model.fused_code import step_functions  # noqa: E402

LENGTHS = [*range(1, PRODUCTS + 2), 2 * PRODUCTS - 1, 2 * PRODUCTS, 2 * PRODUCTS + 1]
X86 = "x86_64-unknown-linux-gnu"
# LLVM's name of a processor, features switched on and off, and what the processor here must have to run the code.
PROCESSORS: dict[str, tuple[str, str, set[str]]] = {
    "SSE2": ("x86-64", "", set()),
    "SSE4.2": ("x86-64-v2", "", {"sse4.2"}),
    "AVX": ("x86-64-v2", "+avx", {"avx"}),
    "AVX2": ("x86-64-v3", "", {"avx2", "bmi2", "fma"}),
    "AVX2, AVX-512 switched off": ("x86-64-v4", "-avx512f,-avx512bw,-avx512vl,-avx512dq,-avx512cd", {"avx2", "bmi2"}),
    "AVX-VNNI": ("x86-64-v3", "+avxvnni", {"avxvnni"}),
    "AVX-512": ("x86-64-v4", "", {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"}),
    "AVX-512 VNNI": ("x86-64-v4", "+avx512vnni", {"avx512f", "avx512bw", "avx512vl", "avx512vnni"}),
}
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
ARM_FEATURES = {"NEON": "", "SVE2": "+sve2,+i8mm,+dotprod"}
# Takes the sizes as arguments, reads samples, weights, scales and bias, and writes the kernel's logits.
MAIN_C = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
void logits(const uint8_t *, int64_t, const int16_t *, const float *, const float *, float *);
static void *in(size_t size) {
    void *data = malloc(size);
    if (!data || fread(data, 1, size, stdin) != size) exit(1);
    return data;
}
int main(int argc, char **argv) {
    size_t features = atol(argv[1]), classes = atol(argv[2]), count = atol(argv[3]), weights = atol(argv[4]);
    uint8_t *samples = in(count * features);
    int16_t *ordered = in(weights * 2);
    float *scales = in(classes * 4), *bias = in(classes * 4), *found = malloc(classes * count * 4);
    logits(samples, count, ordered, scales, bias, found);
    return fwrite(found, 4, classes * count, stdout) != classes * count;
}
"""


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Processor:
    """An x86 processor whose code runs here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"this processor is {platform.machine()}: it runs no code for x86-64")
    cpu, switches, needed = PROCESSORS[request.param]
    here = {feature for feature, there in binding.get_host_cpu_features().items() if there}
    if missing := needed - here:
        pytest.skip(f"this processor lacks {', '.join(sorted(missing))}")
    return Processor(X86, cpu, switches)


def test_code_for_older_and_newer_x86_processors_computes_exact_sums(processor: Processor) -> None:
    for features, classes in [*((length, 3) for length in LENGTHS), *((40, GROUP + more) for more in (-1, 0, 1, 11))]:
        assert is_exact(compiled(features, classes, processor), features, classes), (features, classes)


def test_steps_of_fits_are_right_on_older_and_newer_x86_processors(processor: Processor) -> None:
    for features, classes in [(1, 1), (15, 3), (16, 4), (17, 5), (784, 10), (100, CLASSES_MAX)]:
        functions = StepFunctions(*step_functions(features, classes, processor))
        assert is_right(functions, features, classes), (features, classes)


def test_rows_are_classified_alike_on_older_and_newer_x86_processors(processor: Processor) -> None:
    """The bits are those of ONNX Runtime here, in whatever width the code computes them."""
    for features, classes, dtype in [(7, 3, "uint8"), (784, 10, "uint8"), (300, 17, "float32"), (1_030, 40, "uint8")]:
        weights = np.random.default_rng(5).normal(0, 0.1, (classes, features + 1)).astype(np.float32)
        model = Model(to_onnx(weights, dtype), "0" * 64)
        linear = linear_softmax(model.data)
        assert linear is not None
        kernel = RowKernel(linear, row_code.compiled(features, classes, dtype, processor))
        assert agrees(kernel, features, model.classify), (features, classes)


@pytest.mark.parametrize("name", ARM_FEATURES)
def test_rows_can_be_compiled_for_arm64(name: str) -> None:
    assert row_code.object_file(784, 10, "uint8", Processor("aarch64-linux-gnu", "generic", ARM_FEATURES[name]))


@pytest.mark.parametrize("name", ARM_FEATURES)
def test_code_for_arm64_computes_exact_sums(name: str, tmp_path: Path) -> None:
    if missing := [program for program in (ARM_COMPILER, ARM_EMULATOR) if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    source, main = tmp_path / "main.c", tmp_path / "main.o"
    source.write_text(MAIN_C)
    subprocess.run([ARM_COMPILER, "-O1", "-c", source, "-o", main], check=True)
    processor = Processor("aarch64-linux-gnu", "generic", ARM_FEATURES[name])
    for features, classes in SIZES:
        made, program = tmp_path / f"{features}.o", tmp_path / f"{features}"
        made.write_bytes(object_file(features, classes, processor))
        subprocess.run([ARM_COMPILER, "-static", main, made, "-o", program], check=True)
        assert is_exact(emulated(program, features, classes), features, classes), (features, classes)


def emulated(program: Path, features: int, classes: int) -> Code:
    """Return ``program`` under emulation as a function that is called as machine code is."""

    def code(samples: int, count: int, weights: int, scales: int, bias: int, found: int) -> None:
        ordered = classes * -(-features // PRODUCTS) * PRODUCTS
        given = (
            array_at(samples, ctypes.c_uint8, count * features),
            array_at(weights, ctypes.c_int16, ordered),
            array_at(scales, ctypes.c_float, classes),
            array_at(bias, ctypes.c_float, classes),
        )
        answer = subprocess.run(
            [ARM_EMULATOR, "-cpu", "max", program, *map(str, (features, classes, count, ordered))],
            input=b"".join(array.tobytes() for array in given),
            capture_output=True,
            check=True,
        ).stdout
        array_at(found, ctypes.c_float, classes * count)[:] = np.frombuffer(answer, "<f4")

    return code
