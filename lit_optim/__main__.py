"""``python -m lit_optim`` is ``lit-optim``."""

import sys

from lit_optim.cli import main

if __name__ == "__main__":
    sys.exit(main())
