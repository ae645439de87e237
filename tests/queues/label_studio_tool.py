"""A Label Studio server for tests, and annotators who label in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from labelloop_cli.local.stack import Stack

from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.queues.label_studio_venv import LEGACY_TOKEN, command, environment, seed

_TRIES = 5
WANTED = "LABELLOOP_LABEL_STUDIO_TESTS"


def needs_label_studio() -> pytest.MarkDecorator:
    """Mark tests that need a real Label Studio: they run if requested and if it is installed."""
    if os.environ.get(WANTED) != "1":
        return pytest.mark.skip(reason="takes minutes with a real Label Studio: make test-labelstudio")
    missing = not command().exists() or not seed().exists()
    return pytest.mark.skipif(missing, reason="no Label Studio: python tests/queues/label_studio_venv.py installs it")


class LabelStudioServer:
    """A Label Studio process on a copy of the migrated data and a free port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Token {LEGACY_TOKEN}"}, timeout=60, trust_env=False
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it responds; do nothing if it runs."""
        if self._process is not None:
            return
        data = self._folder / "label-studio"
        if not data.exists():
            shutil.copytree(seed(), data)
        with (self._folder / "label-studio.log").open("ab") as output:
            self._process = subprocess.Popen(
                [command(), "start", "--no-browser", "--port", str(self.port), "--internal-host", "127.0.0.1"],
                env=environment(data),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._wait(self._process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and process.poll() is None:
            with suppress(httpx.TransportError):
                if self.api.get("/api/version").status_code == 200:
                    return
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        raise RuntimeError(f"Label Studio does not start; see {self._folder / 'label-studio.log'}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # a graceful exit takes seconds
            self._process.wait()
            self._process = None

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Return the response's JSON; fail on an error status."""
        answer = self.api.request(method, path, **arguments)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def personal_token(self) -> str:
        """Return a new token of the owner, and revoke the old ones."""
        for old in self.call("GET", "/api/token/"):
            self.call("POST", "/api/token/blacklist/", json={"refresh": old["token"]})
        return str(self.call("POST", "/api/token/")["token"])

    def rename(self, user: int, email: str) -> None:
        """Change the e-mail address of an account, as an administrator does in the database: the API refuses it."""
        self.stop()
        with closing(sqlite3.connect(self._folder / "label-studio" / "label_studio.sqlite3")) as database, database:
            database.execute("UPDATE htx_user SET email = ? WHERE id = ?", (email, user))
        self.start()

    def tasks(self, project_id: int) -> list[dict[str, Any]]:
        """Return a project's tasks with all fields, by id. Retry: Label Studio may fail while a task is deleted."""
        query: dict[str, int | str] = {"project": project_id, "fields": "all", "page_size": 1000}
        for _ in range(_TRIES):
            answer = self.api.get("/api/tasks", params=query)
            if answer.status_code != 500:
                break
        assert answer.is_success, answer.text[:500]
        found = answer.json()
        return sorted(found["tasks"], key=lambda task: int(task["id"]))

    def projects(self) -> list[dict[str, Any]]:
        """Return labelloop's projects, by id."""
        found = self.call("GET", "/api/projects", params={"page_size": 1000})["results"]
        return sorted(
            (each for each in found if each["title"].startswith("labelloop ")), key=lambda each: int(each["id"])
        )


@contextmanager
def running_label_studio(folder: Path) -> Iterator[LabelStudioServer]:
    server = LabelStudioServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.api.close()


def choice(class_name: str) -> list[dict[str, Any]]:
    """The result of an annotation that chooses the class."""
    value = {"choices": [class_name]}
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": value}]


class LabelStudioTool:
    """Annotators who label through the API. Their e-mail addresses are made from their names."""

    name = "label-studio"

    def __init__(self, server: LabelStudioServer) -> None:
        self.server = server
        self.environment = {
            "LABELLOOP_LABEL_STUDIO_URL": server.url,
            "LABELLOOP_LABEL_STUDIO_TOKEN": LEGACY_TOKEN,
            "LABELLOOP_LABEL_STUDIO_POLL_S": "0.5",
        }
        self._seen: set[tuple[str, int]] = set()  # SQLite reuses the ids of deleted tasks
        self._tasks: dict[str, tuple[int, Sequence[str]]] = {}
        self._users: dict[str, int] = {}

    async def connect(self, stack: Stack) -> None:
        pass  # the oracle connects to the tool

    async def requests(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._requests)

    def _requests(self) -> list[dict[str, Any]]:
        fresh = []
        for project in self.server.projects():
            classes = [each["value"] for each in project["parsed_label_config"]["label"]["labels_attrs"].values()]
            for task in self.server.tasks(project["id"]):
                request_id = task["meta"].get("labelloop_request_id")
                if request_id and (request_id, task["id"]) not in self._seen:
                    self._seen.add((request_id, task["id"]))
                    self._tasks[request_id] = task["id"], classes
                    fresh.append({"request_id": request_id, "classes": classes, **task["data"]})
        return fresh

    async def answer(self, result: dict[str, Any]) -> None:
        """Submit a result. A revision changes, and a withdrawal deletes, the annotator's annotation of the task. Fails
        if the task was deleted."""
        await asyncio.to_thread(self._answer, result)

    def _answer(self, result: Mapping[str, Any]) -> None:
        task_id, classes = self._tasks[result["request_id"]]
        user = self.user(result.get("annotator", "somebody"))
        own = [
            each
            for each in self.server.call("GET", f"/api/tasks/{task_id}/")["annotations"]  # including skips
            if each["completed_by"]["id"] == user
        ]
        if result.get("withdrawn"):
            self.server.call("DELETE", f"/api/annotations/{own[-1]['id']}/")
            return
        said: dict[str, Any] = {"completed_by": user, "was_cancelled": "skip" in result, "result": []}
        if "skip" not in result:
            said["result"] = choice(result["class_name"] if "class_name" in result else classes[result["label"]])
        if "time_spent_s" in result:
            said["lead_time"] = result["time_spent_s"]
        if result.get("revision") and own:
            self.server.call("PATCH", f"/api/annotations/{own[-1]['id']}/", json=said)
        else:
            self.server.call("POST", f"/api/tasks/{task_id}/annotations/", json=said)

    def user(self, name: str) -> int:
        if name not in self._users:
            email = f"{name}@example.com"
            known = {each["email"]: each["id"] for each in self.server.call("GET", "/api/users/")}
            if email not in known:
                body = {"email": email, "username": name, "password": "only-for-tests"}
                known[email] = self.server.call("POST", "/api/users/", json=body)["id"]
            self._users[name] = known[email]
        return self._users[name]

    def overlaps(self) -> dict[str, int]:
        """Return how many annotators each request in the tool is for."""
        tasks = [task for project in self.server.projects() for task in self.server.tasks(project["id"])]
        return {task["meta"]["labelloop_request_id"]: task["overlap"] for task in tasks}

    async def put(self, request_id: str) -> None:
        """Add a task to the first project that the oracle did not send."""
        await asyncio.to_thread(self._put, request_id)

    def _put(self, request_id: str) -> None:
        project = self.server.projects()[0]["id"]
        known = {task["id"] for task in self.server.tasks(project)}
        task = {"data": {"image": "data:,"}, "meta": {"labelloop_request_id": request_id}}
        self.server.call("POST", f"/api/projects/{project}/import", json=[task])
        [made] = [task["id"] for task in self.server.tasks(project) if task["id"] not in known]
        self._seen.add((request_id, made))
        self._tasks[request_id] = made, ()

    async def go_down(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def come_back(self) -> None:
        await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def label_studio(folder: Path) -> AsyncIterator[LabelStudioTool]:
    """Run a Label Studio and yield its annotators."""
    folder.mkdir(parents=True, exist_ok=True)
    server = LabelStudioServer(folder)
    try:
        await asyncio.to_thread(server.start)
        yield LabelStudioTool(server)
    finally:
        await asyncio.to_thread(server.stop)
        server.api.close()
