"""`python -m tallynode`."""

from tallynode.cli import main

main()
