"""Define the consoles that commands print to. Names of classes, annotators or files are never read as markup."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(markup=False, emoji=False)
errors = Console(markup=False, emoji=False, stderr=True)


def tell(notes: Iterable[str]) -> None:
    """Print what a command assumed, a line for each sentence, to standard error."""
    for note in notes:
        errors.print(note, style="yellow", highlight=False, soft_wrap=True)


@contextmanager
def going_on(work: str) -> Iterator[None]:
    """Show on a terminal, while the block runs, what is being done and for how long."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        progress.add_task(work, total=None)
        yield
