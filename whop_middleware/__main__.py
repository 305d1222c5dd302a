"""`python -m whop_middleware`: the `whop-middleware` command. Does nothing of its own."""

import sys

from .cli import main

sys.exit(main())
