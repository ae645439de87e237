"""Finding or downloading nats-server, with fake commands and network."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from labelloop.errors import Corrupt, InvalidInput, WrongState
from labelloop_cli.local.host import Host, Run
from labelloop_cli.local.nats.binary import find, find_or_get
from labelloop_cli.local.nats.release import VERSION

RELEASE = f"nats-server-{VERSION}-linux-amd64"
Answer = Callable[[httpx.Request], httpx.Response]


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def no_commands(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    raise FileNotFoundError(command[0])


def no_network(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host", request=request)


def host(
    *, run: Run = no_commands, answer: Answer = no_network, system: str = "linux", is_root: bool = True, **env: str
) -> Host:
    """A machine that has only what is given."""
    return Host(
        env=env,
        system=system,
        architecture="x86_64",
        is_root=is_root,
        more_dirs=(),
        run=run,
        transport=httpx.MockTransport(answer),
    )


class Apt:
    """apt-get and dpkg-deb on a machine whose package lists are empty until they are updated."""

    def __init__(self, *, lists_are_there: bool = False) -> None:
        self.lists_are_there = lists_are_there
        self.commands: list[str] = []

    def __call__(self, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        verb = next(word for word in command if word in {"download", "update", "--extract"})
        self.commands.append(verb)
        if verb == "update":
            self.lists_are_there = True
        elif verb == "--extract":
            program(folder / command[-1] / "usr/sbin/nats-server")
        elif not self.lists_are_there:
            return subprocess.CompletedProcess(command, 100, "E: Unable to locate package nats-server\n")
        else:
            (folder / "nats-server_2.9.10_amd64.deb").touch()
        return subprocess.CompletedProcess(command, 0, "")


def release(content: bytes, *, sums: str | None = None) -> Answer:
    """The server of the releases."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"{RELEASE}/nats-server")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    archive = body.getvalue()
    listed = sums if sums is not None else f"{hashlib.sha256(archive).hexdigest()}  {RELEASE}.tar.gz\n"

    def answer(request: httpx.Request) -> httpx.Response:
        files = {"SHA256SUMS": listed.encode(), f"{RELEASE}.tar.gz": archive}
        name = request.url.path.rsplit("/", 1)[1]
        return httpx.Response(200, content=files[name]) if name in files else httpx.Response(404)

    return answer


def test_the_program_that_the_operator_names_takes_precedence(tmp_path: Path) -> None:
    named, on_path = program(tmp_path / "named"), program(tmp_path / "bin/nats-server")
    here = host(PATH=str(on_path.parent), LABELLOOP_NATS_SERVER=str(named))
    assert find_or_get(tmp_path / "cache", here) == named


def test_a_named_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin/nats-server")
    here = host(PATH=str(on_path.parent), LABELLOOP_NATS_SERVER=str(tmp_path / "nothing"))
    with pytest.raises(InvalidInput, match="nothing"):
        find_or_get(tmp_path / "cache", here)


def test_a_program_on_the_path_is_used(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin/nats-server")
    assert find_or_get(tmp_path / "cache", host(PATH=f":/nowhere:{on_path.parent}")) == on_path


def test_a_program_in_a_daemon_folder_outside_the_path_is_used(tmp_path: Path) -> None:
    installed = program(tmp_path / "sbin/nats-server")
    here = Host(env={"PATH": "/nowhere"}, more_dirs=(str(installed.parent),), run=no_commands)
    assert find(tmp_path / "cache", here) == installed


def test_find_downloads_nothing(tmp_path: Path) -> None:
    assert find(tmp_path / "cache", host(run=Apt(), answer=release(b"program"))) is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("lists_are_there", "expected"),
    [(True, ["download", "--extract"]), (False, ["download", "update", "download", "--extract"])],
)
def test_the_debian_package_is_unpacked_and_cached(tmp_path: Path, lists_are_there: bool, expected: list[str]) -> None:
    apt = Apt(lists_are_there=lists_are_there)
    got = find_or_get(tmp_path / "cache", host(run=apt))
    assert apt.commands == expected
    assert find_or_get(tmp_path / "cache", host()) == got, "the second time nothing is asked"
    assert [path.name for path in (tmp_path / "cache/nats-server").iterdir()] == ["debian"], "nothing else is left"


def test_without_root_package_lists_are_not_updated(tmp_path: Path) -> None:
    apt = Apt()
    got = find_or_get(tmp_path / "cache", host(run=apt, answer=release(b"program"), is_root=False))
    assert apt.commands == ["download"]
    assert got.read_bytes() == b"program"


def test_the_official_release_is_unpacked_and_cached(tmp_path: Path) -> None:
    got = find_or_get(tmp_path / "cache", host(answer=release(b"program")))
    assert got.read_bytes() == b"program"
    assert got.stat().st_mode & 0o111
    assert find_or_get(tmp_path / "cache", host()) == got, "the second time nothing is asked"


@pytest.mark.parametrize("sums", [f"{'0' * 64}  {RELEASE}.tar.gz\n", "", "not a list of digests at all\n\n"])
def test_a_release_with_the_wrong_digest_is_refused(tmp_path: Path, sums: str) -> None:
    with pytest.raises(Corrupt, match="SHA256SUMS"):
        find_or_get(tmp_path / "cache", host(answer=release(b"altered", sums=sums)))
    assert find(tmp_path / "cache", host()) is None


def test_the_error_says_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WrongState) as caught:
        find_or_get(tmp_path / "cache", host())
    assert caught.value.reason == "NATS_SERVER_MISSING"
    for words in ("no apt-get", "no route to host", "install the package", "on your PATH", "LABELLOOP_NATS_SERVER="):
        assert words in caught.value.message


def test_the_error_quotes_a_failing_apt(tmp_path: Path) -> None:
    def broken(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 100, "Reading lists\nE: the disk is full\n")

    with pytest.raises(WrongState, match="the disk is full"):
        find_or_get(tmp_path / "cache", host(run=broken))


def test_a_hanging_apt_times_out(tmp_path: Path) -> None:
    def hanging(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(list(command), 1.0)

    with pytest.raises(WrongState, match="took too long"):
        find_or_get(tmp_path / "cache", host(run=hanging))


def test_the_error_names_an_unsupported_platform(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match="plan9 on x86_64"):
        find_or_get(tmp_path / "cache", host(system="plan9", answer=release(b"program")))


def test_the_error_names_the_file_of_a_missing_release(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match=r"SHA256SUMS.*404"):
        find_or_get(tmp_path / "cache", host(answer=lambda _: httpx.Response(404)))


def test_the_error_names_an_unwritable_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    with pytest.raises(WrongState, match="cache"):
        find_or_get(cache, host(run=Apt(), answer=release(b"program")))
