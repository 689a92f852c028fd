"""`python -m contrastive_cli` is `clr`."""

import sys

try:
    from contrastive_cli.cli import run
except KeyboardInterrupt:
    sys.exit(130)

run()
