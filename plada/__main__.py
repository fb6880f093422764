"""`python -m plada`."""

from plada.cli import main

main()
