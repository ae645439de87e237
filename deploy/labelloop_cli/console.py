"""Where commands print. What others named (classes, annotators, files) is shown as it is and never read as markup."""

from rich.console import Console

console = Console(markup=False, emoji=False)
errors = Console(markup=False, emoji=False, stderr=True)
