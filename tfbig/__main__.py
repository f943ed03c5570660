"""`python -m tfbig` is `tfbig`."""

from __future__ import annotations

import sys

from tfbig.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
