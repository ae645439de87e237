"""What a part is given in place of another that it must not use."""

from __future__ import annotations

from typing import Any, NoReturn


class _Unused:
    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} is used of a part that this test leaves out")


UNUSED: Any = _Unused()
