"""``python -m spic`` is the command ``spic``."""

import sys

from spic.cli import main

sys.exit(main())
