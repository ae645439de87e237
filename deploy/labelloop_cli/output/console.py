"""Define the consoles that commands print to. Names of classes, annotators or files are never read as markup."""

from collections.abc import Iterable

from rich.console import Console

console = Console(markup=False, emoji=False)
errors = Console(markup=False, emoji=False, stderr=True)


def tell(notes: Iterable[str]) -> None:
    """Print what a command assumed, a line for each sentence, to standard error."""
    for note in notes:
        errors.print(note, style="yellow", highlight=False, soft_wrap=True)
