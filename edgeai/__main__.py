"""`python -m edgeai` is the `edgeai` command."""

from edgeai.cli import main

main()
