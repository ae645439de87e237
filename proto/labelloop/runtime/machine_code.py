"""Compile functions that LLVM makes for the processor at hand, and emit their loops.

This module needs llvmlite, 50 MB and 0.15 s to import; import it when code is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import binding, ir

LONG = ir.IntType(64)


@dataclass(frozen=True)
class Processor:
    """The processor that LLVM makes code for.

    Attributes:
        triple: target triple.
        cpu: LLVM's name for the processor.
        features: such as ``+avx2,-avx512f``, on top of what that processor has.
    """

    triple: str
    cpu: str = ""
    features: str = ""


def this_processor() -> Processor:
    """Return the processor that this process runs on, with the features that the operating system lets it use."""
    features = binding.get_host_cpu_features().flatten()
    return Processor(binding.get_default_triple(), binding.get_host_cpu_name(), features)


_ENGINES: list[Any] = []  # each owns machine code, which must outlive its last call


def compile_functions(module: ir.Module, processor: Processor, **prototypes: Any) -> list[Callable[..., Any]]:
    """Compile ``module`` for ``processor`` and return the named functions; ``prototypes`` are of ctypes.

    Other threads can run during a call.
    """
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    optimised, machine = _optimised(module, processor)
    engine = binding.create_mcjit_compiler(optimised, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    return [prototype(engine.get_function_address(name)) for name, prototype in prototypes.items()]


def emit_object(module: ir.Module, processor: Processor) -> bytes:
    """Emit an object file of ``module`` for ``processor``, which may be of another architecture."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    optimised, machine = _optimised(module, processor)
    emitted: bytes = machine.emit_object(optimised)
    return emitted


def _optimised(module: ir.Module, processor: Processor) -> tuple[Any, Any]:
    """Return a verified module and the target machine that it was optimised for."""
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    target = binding.Target.from_triple(processor.triple)
    machine = target.create_target_machine(cpu=processor.cpu, features=processor.features, opt=3)
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return parsed, machine


@contextmanager
def loop(to: ir.IRBuilder, count: Any, initial: Sequence[Any] = ()) -> Iterator[tuple[Any, list[Any]]]:
    """Emit a loop, and yield its index and the values carried from pass to pass, to be replaced in place.

    The index runs from 0 to below ``count``, which is at least 1. After the loop, the carried values are the last ones.
    """
    before, body, behind = to.block, to.append_basic_block(), to.append_basic_block()
    to.branch(body)
    to.position_at_end(body)
    index = to.phi(LONG)
    index.add_incoming(LONG(0), before)
    phis = [to.phi(value.type) for value in initial]
    for phi, value in zip(phis, initial, strict=True):
        phi.add_incoming(value, before)
    carried = list(phis)
    yield index, carried
    following = to.add(index, LONG(1))
    index.add_incoming(following, to.block)
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, to.block)
    to.cbranch(to.icmp_unsigned("<", following, count), body, behind)
    to.position_at_end(behind)
