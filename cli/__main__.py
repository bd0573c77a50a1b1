"""`python -m lowtide.cli`."""

from lowtide.cli.main import main

main()
