"""`python -m lowtide.cli`."""

from lowtide.cli import run

run()
