"""`python -m safelight`: the same program as the `safelight` command. Owns nothing else."""

import sys

from safelight.cli import main

if __name__ == "__main__":
    sys.exit(main())
