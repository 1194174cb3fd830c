"""`python -m cli`: the `barque` command where its script is not on PATH."""

from cli.main import main

main()
