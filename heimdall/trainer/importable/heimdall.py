"""The folder of this file stands in the PYTHONPATH of trainers: there `heimdall` can be imported, and nothing else.

The folder above the real package holds more (the app, its tests), and names like `training` or `tests` are the
user's own inside a training. This module puts the real package in its place.
"""

import importlib.util
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location(
    "heimdall", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["heimdall"] = _module
_spec.loader.exec_module(_module)
