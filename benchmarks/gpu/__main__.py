"""`python -m benchmarks.gpu` is `python -m benchmarks.run gpu`."""

import sys

from benchmarks.run import main

sys.argv.insert(1, "gpu")
sys.exit(main())
