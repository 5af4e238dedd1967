"""The one console that progress goes to: standard error."""

from rich.console import Console

console = Console(stderr=True)
