"""Define the contracts between labelloop's services and the code that all of them share.

``__version__`` is the version of the installed distribution, looked up on access.
"""

from __future__ import annotations

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("labelloop")
    except PackageNotFoundError as error:
        message = "labelloop is not installed, so that its version is unknown: pip install it, or its folder with -e"
        raise RuntimeError(message) from error
