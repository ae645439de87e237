"""Define the contracts between labelloop's services, the code that all of them share, and the client library.

``Client`` and ``AsyncClient`` are imported on access, because services do without them. ``__version__`` is the version
of the installed distribution.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelloop_cli.library import AsyncClient, Client
    from labelloop_cli.library.options import RunOptions

__all__ = ["AsyncClient", "Client", "RunOptions"]
__version__: str
_LIBRARY = {
    "AsyncClient": "labelloop_cli.library",
    "Client": "labelloop_cli.library",
    "RunOptions": "labelloop_cli.library.options",
}


def __getattr__(name: str) -> Any:
    if name in _LIBRARY:
        return getattr(import_module(_LIBRARY[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("labelloop")
    except PackageNotFoundError as error:
        message = "labelloop is not installed, so that its version is unknown: pip install it, or its folder with -e"
        raise RuntimeError(message) from error
