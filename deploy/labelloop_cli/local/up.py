"""Start everything on this machine for ``labelloop up``, and say where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from labelloop_cli.local.saved_page import PORT, KeptPage, keep_page, kept_page
from labelloop_cli.local.settings_check import check_settings
from labelloop_cli.local.stack import POOLS_DIR, Page, Stack, oracle_settings, pools_folder, running
from labelloop_cli.output.console import console

PAGE_FILE = "page.json"


async def up(
    store: Path,
    nats: str,
    nats_port: int,
    ports: tuple[int, int, int],
    *,
    annotate: bool = False,
    page_port: int | None = None,
    token: str = "",
    remote_pools: str = "",
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Start everything, print the addresses, and keep it running until interrupted.

    Args:
        annotate: Whether to serve the labelling page.
        page_port: Its port; 0 for the one that it had, or any; None for the one that it had, or 8080.
        token: The secret that opens it; empty for the one that it had, or a new one.
        options: The option that a setting comes from, by its variable, for messages.

    Raises:
        InvalidInput: Before anything is started, if a setting of a service is wrong.
    """
    file = store / PAGE_FILE
    kept = kept_page(file, port=page_port, token=token, first_port=PORT) if annotate else None
    await check_settings(oracle_settings(kept.page if kept else None, remote_pools), options)
    started = running(
        store,
        nats_url=nats,
        nats_port=nats_port,
        ports=ports,
        page=kept.page if kept else None,
        remote_pools=remote_pools,
        for_us=True,
        reflection=True,
    )
    async with started as stack:
        if kept and not token:  # a token of the user's is theirs to keep
            keep_page(file, Page(stack.services["oracle"].http_port, kept.page.token))
        _tell(stack, kept, store, remote_pools)
        await stack.keep_up()


def _tell(stack: Stack, kept: KeptPage | None, store: Path, remote_pools: str) -> None:
    console.print(f"broker   {stack.nats_url}")
    for name, service in stack.services.items():
        console.print(f"{name:<8} {service.address}")
    if kept:
        console.print(f"page     {stack.page_url}", soft_wrap=True)
        if stack.page_url_of_others not in ("", stack.page_url):
            console.print(f"         {stack.page_url_of_others} from other machines", soft_wrap=True)
        for note in kept.notes:
            console.print(note, style="yellow", highlight=False, soft_wrap=True)
    console.print(
        f"files    runs read those below {pools_folder()} only; set {POOLS_DIR} to another folder, or upload them",
        soft_wrap=True,
    )
    if remote_pools:
        console.print(f"pools below {remote_pools} are read with this terminal's credentials", soft_wrap=True)
    console.print(f"data and logs in {store}; Ctrl-C stops everything, `labelloop up` goes on from there")
