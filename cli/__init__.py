"""`lowtide …`: thin commands that wire the objects by hand. Each command imports what it needs when it runs."""

from lowtide.cli.main import main

__all__ = ["main"]
