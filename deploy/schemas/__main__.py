"""Write deploy/docs/schemas, or with --check report whether it is current: ``python -m schemas [--check]``."""

from __future__ import annotations

import sys

from schemas.documents import FOLDER, generated, stale
from schemas.json_schema import Undescribed
from schemas.openapi import Undocumented


def main() -> None:
    try:
        names, wanted = stale(), generated()
    except (Undescribed, Undocumented) as error:
        sys.exit(str(error))
    if sys.argv[1:] == ["--check"]:
        if names:
            sys.exit(f"deploy/docs/schemas is not current; run `python -m schemas`: {', '.join(names)}")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name])
        else:  # it is no longer published
            (FOLDER / name).unlink()
        print(f"deploy/docs/schemas/{name}")


if __name__ == "__main__":
    main()
