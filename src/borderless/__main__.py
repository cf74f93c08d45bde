"""`python -m borderless`: the command line, for torchrun and wherever the script is not on the path."""

import sys

from borderless.cli.main import main

sys.exit(main())
