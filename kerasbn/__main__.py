"""`python -m kerasbn`, for where the console script is not on the PATH."""

from kerasbn.cli.main import main

main()
