"""Makes the targets importable from the test beside them, and what they borrow: the scripted peer, the served."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "connection"), str(HERE.parent / "hostile")]
