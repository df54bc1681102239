"""`python -m torz.cli` is the torz command."""

import sys

from torz.cli import main

sys.exit(main())
