"""Start and list runs, and upload pools, in asynchronous programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, Unpack

from labelloop.errors import InvalidInput
from labelloop.oracle.v1 import oracle_pb2
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest

from labelloop_cli.library.async_run import AsyncRun
from labelloop_cli.library.options import AnyPath, RunOptions, document_of
from labelloop_cli.library.samples import pool_path
from labelloop_cli.library.session import Session, endpoints_of, log
from labelloop_cli.library.state import RunState, state_of
from labelloop_cli.operations.pool_uploads import chosen_upload
from labelloop_cli.operations.run import listing, started
from labelloop_cli.operations.upload import reference, upload
from labelloop_cli.run_spec.fields import Document
from labelloop_cli.run_spec.file import read_spec
from labelloop_cli.run_spec.request import start_request


class AsyncClient:
    """A client of labelloop's services, for asynchronous programs; :class:`Client` is the same for others.

    It connects at the first call. Calls that are safe to repeat are repeated while a service is away, for ``retry_s``
    seconds; that it waits is logged by the logger ``labelloop``. Every method may raise a
    :class:`labelloop.errors.LabelloopError`, whose ``reason`` is stable and whose message says what to do.

    Args:
        host: Where the services are, on their default ports. Empty: as the environment says (``LABELLOOP_TRAINER``,
            ``LABELLOOP_SCORER``, ``LABELLOOP_ORACLE``), else on this machine.
        trainer: The trainer's address, host:port; likewise ``scorer`` and ``oracle``.
        tls_dir: A folder of ca.crt, tls.crt and tls.key: connections then use TLS. None: as LABELLOOP_TLS_DIR says.
        retry_s: None: as LABELLOOP_RETRY_S says, else 30.

    Attributes:
        pools: Pools on the oracle's disk.
    """

    def __init__(
        self,
        host: str = "",
        *,
        trainer: str = "",
        scorer: str = "",
        oracle: str = "",
        tls_dir: AnyPath | None = None,
        retry_s: float | None = None,
    ) -> None:
        endpoints = endpoints_of(host, trainer=trainer, scorer=scorer, oracle=oracle, tls_dir=tls_dir, retry_s=retry_s)
        self._session = Session(endpoints)
        self.pools = AsyncPools(self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Runs go on."""
        await self._session.close()

    async def start(
        self,
        pool: Any = "",
        *,
        run_id: str = "",
        spec: Document | AnyPath | None = None,
        continues: str = "",
        known: AnyPath | None = None,
        upload: bool | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRun:
        """Start a run with the defaults of ``labelloop run start``, and return it.

        What was read and chosen is logged by the logger ``labelloop`` at the level INFO.

        Args:
            pool: A path or URL, an array ``[n, ...]``, or a pandas data frame. May be empty with ``spec`` or
                ``continues``.
            run_id: Its name; empty: a new one.
            spec: A spec, or the path of a spec file; options win over it.
            continues: The id of a run from whose end it goes on.
            known: CSV file of labels that exist.
            upload: Whether to upload the files that it names. None: if they are here and the oracle is on another
                machine. Arrays and data frames are always uploaded.
            options: As :class:`RunOptions` declares.

        Raises:
            InvalidInput: If an option is wrong; all that have a wrong name or type are named at once.
        """
        with pool_path(pool) as (path, temporary):
            if temporary and upload is False:
                raise InvalidInput("BAD_POOL", "arrays and data frames are always uploaded", field="upload")
            file = spec if isinstance(spec, dict) else read_spec(Path(spec)) if spec is not None else {}
            document = document_of(path, options, file)
            wanted = start_request(
                document, run_id=run_id, continues=continues, known_file=Path(known) if known else None
            )
            for note in wanted.notes:
                log.warning(note)
            async with self._session.translated() as clients:
                uploaded = True if temporary else upload
                run = await started(clients, self._session.endpoints, wanted, uploaded, log.info)
        return AsyncRun(self._session, run.run_id)

    async def run(self, run_id: str) -> AsyncRun:
        """Return a run by its id. Raises NotFound if there is none."""
        async with self._session.translated() as clients:
            await clients.trainer.GetRun(GetRunRequest(run_id=run_id))
        return AsyncRun(self._session, run_id)

    async def runs(self, *, archived: bool = False) -> list[RunState]:
        """Return where all runs stand that are not archived, or all that are; oldest first."""
        async with self._session.translated() as clients:
            return [state_of(run) for run in (await listing(clients, archived=archived)).runs]


class AsyncPools:
    """Pools on the oracle's disk, which were uploaded from elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def push(self, pool: Any, name: str = "") -> str:
        """Upload a file, folder, array or data frame, and return the name by which :meth:`AsyncClient.start` finds it.

        What the oracle has already is not sent again.
        """
        with pool_path(pool) as (path, _):
            async with self._session.translated() as clients:
                pushed, sent = await upload(clients.oracle, Path(path), name)
        log.info("%s uploaded: %s files, %s bytes sent now", path, pushed.file_count, sent)
        return f"{reference(pushed)}/{Path(path).resolve().name}"

    async def list(self) -> dict[str, str]:
        """Return the names of all uploads by id, oldest first."""
        async with self._session.translated() as clients:
            listed = await clients.oracle.ListUploads(oracle_pb2.ListUploadsRequest())
        return {each.id: each.name for each in listed.uploads}

    async def remove(self, upload: str) -> None:
        """Remove an upload, given by its id, the beginning of it, or its name. Runs that have read it
        keep their pools.
        """
        async with self._session.translated() as clients:
            listed = await clients.oracle.ListUploads(oracle_pb2.ListUploadsRequest())
            chosen = chosen_upload(listed.uploads, upload)
            await clients.oracle.RemoveUpload(oracle_pb2.RemoveUploadRequest(id=chosen.id))
