"""Configure ONNX Runtime for the scorer."""

from __future__ import annotations

import onnxruntime


def share_memory() -> None:
    """Make all sessions of this process share one arena; call it once, before the first session.

    A session with its own arena touches megabytes of fresh memory in its first run, which costs more than the run.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Open a session on one thread that does not spin, since other work needs the core between calls.

    Raises whatever ONNX Runtime raises for a graph that it cannot load: its exceptions share no base but Exception.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
