"""Code compiled for other processors than this one: kernels and steps of fits are right."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scorer_svc.models.model import Model
from scorer_svc.prefilter.integer_kernel import Code, Kernel
from scorer_svc.prefilter.kernel_check import is_right
from scorer_svc.prefilter.layout import Layout
from scorer_svc.prefilter.linear_head import linear_softmax
from scorer_svc.row_kernel.kernel import RowKernel, agrees
from tests.processors import PROCESSORS, X86, runnable
from tests.unit.kernels import SIZES, array_at
from trainer_svc.model.fused_step import CLASSES_MAX, StepFunctions
from trainer_svc.model.fused_step import is_right as steps_are_right
from trainer_svc.model.onnx_export import to_onnx

pytest.importorskip("llvmlite.binding", reason="the extra llvm is not installed")

from labelloop.runtime.machine_code import Processor

from scorer_svc.prefilter.machine_code import compiled, layouts, object_file
from scorer_svc.row_kernel import machine_code as row_code
from trainer_svc.model.fused_code import step_functions

ARM = "aarch64-linux-gnu"
ARM_COMPILER, ARM_EMULATOR = f"{ARM}-gcc", "qemu-aarch64"
ARM_FEATURES = {"NEON": "", "dot product": "+dotprod", "SVE2": "+sve2,+i8mm,+dotprod"}
ARM_SIZES = [(1, 2), (15, 4), (17, 9), (64, 20), (97, 2), (784, 10), (40, 100)]
# Takes the sizes as arguments; reads samples, positions, weights, shifts, scales, bias and numbers; writes the result.
MAIN_C = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
void lowest(const uint8_t *, const int64_t *, int64_t, const void *, const int32_t *, const float *, const float *,
            const float *, int64_t, int32_t *, float *);
static void *in(size_t size) {
    void *data = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!data || fread(data, 1, size, stdin) != size) exit(1);
    return data;
}
int main(int argc, char **argv) {
    size_t samples_bytes = atol(argv[1]), count = atol(argv[2]), weights_bytes = atol(argv[3]), rows = atol(argv[4]);
    size_t strategy = atol(argv[5]), scratch_words = atol(argv[6]), found_words = atol(argv[7]);
    uint8_t *samples = in(samples_bytes);
    int64_t *positions = in(count * 8);
    void *weights = in(weights_bytes);
    int32_t *shifts = in(rows * 4);
    float *scales = in(rows * 4), *bias = in(rows * 4), *numbers = in(8), *found = malloc(found_words * 4);
    int32_t *scratch = aligned_alloc(64, (scratch_words * 4 + 63) / 64 * 64);
    lowest(samples, positions, count, weights, shifts, scales, bias, numbers, strategy, scratch, found);
    return fwrite(found, 4, found_words, stdout) != found_words;
}
"""


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Processor:
    """An x86 processor whose code runs here."""
    return runnable(request.param)


def test_code_for_older_and_newer_x86_processors_computes_exact_sums(processor: Processor) -> None:
    for features, classes in [*((length, 3) for length in (1, 15, 31, 33, 63, 65, 127, 129)), *SIZES[8:]]:
        for kernel in compiled(features, classes, processor):
            assert is_right(kernel), kernel.layout


def test_steps_of_fits_are_right_on_older_and_newer_x86_processors(processor: Processor) -> None:
    for features, classes in [(1, 1), (15, 3), (16, 4), (17, 5), (784, 10), (100, CLASSES_MAX)]:
        functions = StepFunctions(*step_functions(features, classes, processor))
        assert steps_are_right(functions, features, classes), (features, classes)


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        (Processor(X86, "x86-64-v3", "+avx2"), ["vpmaddubsw", "vpmaddwd"]),
        (Processor(X86, "x86-64-v3", "+avx2,+avxvnni"), ["{vex}\tvpdpbusd", "vpdpwssd"]),
        (Processor(X86, "x86-64-v4", "+avx2,+avx512f,+avx512bw,+avx512vl"), ["vpmaddubsw", "vpmaddwd"]),
        (
            Processor(X86, "x86-64-v4", "+avx2,+avx512f,+avx512bw,+avx512vl,+avx512vnni"),
            ["vpdpbusd", "vpdpwssd"],
        ),
        (Processor(ARM, "generic", ""), ["smlal2"]),
        (Processor(ARM, "generic", "+dotprod"), ["sdot", "smlal2"]),
    ],
    ids=["AVX2", "AVX-VNNI", "AVX-512", "AVX-512 VNNI", "NEON", "dot product"],
)
def test_code_multiplies_by_the_instructions_that_were_chosen(
    processor: Processor, wanted: list[str], tmp_path: Path
) -> None:
    if not (program := shutil.which("llvm-objdump")):
        pytest.skip("llvm-objdump is not installed")
    for layout, instruction in zip(layouts(784, 10, processor), wanted, strict=True):
        made = tmp_path / "made.o"
        made.write_bytes(object_file(layout, processor))
        command = [program, "-d", f"--mattr={processor.features}", str(made)]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert listing.count(instruction) >= layout.rows, instruction


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
    processor = Processor(ARM, "generic", ARM_FEATURES[name])
    for features, classes in ARM_SIZES:
        for layout in layouts(features, classes, processor):
            made, program = tmp_path / "made.o", tmp_path / "program"
            made.write_bytes(object_file(layout, processor))
            subprocess.run([ARM_COMPILER, "-static", main, made, "-o", program], check=True)
            assert is_right(Kernel(layout, emulated(program, layout))), layout


def emulated(program: Path, layout: Layout) -> Code:
    """Return ``program`` under emulation as a function that is called as machine code is."""

    def code(
        samples: int,
        positions: int,
        count: int,
        weights: int,
        shifts: int,
        scales: int,
        bias: int,
        numbers: int,
        strategy: int,
        scratch: int,
        found: int,
    ) -> None:
        chosen = array_at(positions, ctypes.c_int64, count)
        rows, words = layout.rows, -(-count // layout.block) * layout.block * (1 if strategy else layout.rows)
        given = (
            array_at(samples, ctypes.c_uint8, (int(chosen.max()) + 1) * layout.features),
            chosen,
            array_at(weights, ctypes.c_uint8, rows * layout.steps * layout.step * layout.instructions.weight_bits // 8),
            array_at(shifts, ctypes.c_int32, rows),
            *(
                array_at(address, ctypes.c_float, size)
                for address, size in ((scales, rows), (bias, rows), (numbers, 2))
            ),
        )
        sizes = len(given[0]), count, len(given[2]), rows, strategy, layout.scratch, words
        answer = subprocess.run(
            [ARM_EMULATOR, "-cpu", "max", program, *map(str, sizes)],
            input=b"".join(array.tobytes() for array in given),
            capture_output=True,
            check=True,
        ).stdout
        array_at(found, ctypes.c_float, words)[:] = np.frombuffer(answer, "<f4")

    return code
