"""`python -m contrastive_cli` is `clr`."""

from contrastive_cli.cli import main

main()
