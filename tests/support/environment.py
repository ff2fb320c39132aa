"""Loaded by pytest before Django's settings: tests get a data folder of their own and small, quiet libraries.

HEIMDALL_TEST_DATABASE=postgres: everything that talks to a database talks to PostgreSQL.
"""

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="heimdall-tests-")
_owner = os.getpid()
os.environ["HEIMDALL_DATA_DIR"] = _folder
os.environ.setdefault("HEIMDALL_SLOTS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["HEIMDALL_RECIPES"] = "tests.support.recipes.tiny,tests.support.recipes.shards"
os.environ["HEIMDALL_TEXT_FOLDERS"] = tempfile.gettempdir()
os.environ.pop("HEIMDALL_DEBUG", None)
os.environ.pop("DATABASE_URL", None)

from tests.support import postgres  # noqa: E402

if postgres.IS_DEFAULT:
    os.environ["DATABASE_URL"] = postgres.server().url("heimdall")


@atexit.register
def _remove() -> None:
    if os.getpid() == _owner:  # forked children leave it alone
        shutil.rmtree(_folder, ignore_errors=True)
