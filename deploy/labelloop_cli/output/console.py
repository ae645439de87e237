"""Define the consoles that commands print to. Names of classes, annotators or files are never read as markup."""

from rich.console import Console

console = Console(markup=False, emoji=False)
errors = Console(markup=False, emoji=False, stderr=True)
