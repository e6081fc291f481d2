"""Makes the scripted peer and the measures importable; authority and wire of the TLS tests are fixtures here too."""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "connection")]

_spec = importlib.util.spec_from_file_location("tls_fixtures", HERE.parent / "tls/conftest.py")
assert _spec is not None and _spec.loader is not None
_tls = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tls)
authority, wire, now = _tls.authority, _tls.wire, _tls.now
