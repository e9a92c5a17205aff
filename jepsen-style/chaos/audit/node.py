"""`python -m chaos.audit.node SIZE server …`: the product's own command, with audit segments of SIZE bytes.

The size is part of the format, and no setting of the product's: all nodes of a run get the same.
"""

import sys

from raftlock.audit import CutRule
from raftlock.cli.main import main

if __name__ == "__main__":
    # The defaults of a frozen dataclass are those of its constructor.
    defaults = CutRule.__init__.__kwdefaults__
    assert defaults is not None
    defaults["segment_size"] = int(sys.argv.pop(1))
    main()
