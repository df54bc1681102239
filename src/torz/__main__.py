"""`python -m torz` is the torz command."""

import sys

from torz.cli import main

sys.exit(main())
