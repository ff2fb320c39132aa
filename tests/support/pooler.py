"""pgbouncer in front of a PostgreSQL server of the tests, pooling transactions. No package index has the program.

with pooling(postgresql) as pooler:
    pooler.url(direct)      # the database of this URL, through the pooler
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heimdall.processes import die_with_parent
from tests.storage.servers import free_port, wait_for_port
from tests.support import postgres

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Pooler:
    """For a Site, it stands in the place of the server that it leads to. `direct`: the database of the site."""

    def __init__(self, server: postgres.Server, *, leaves_out_options: bool) -> None:
        assert PROGRAM
        self.direct = ""
        self._server, self.folder, self._port = server, server.folder, free_port()
        self._own = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        settings = self._own / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={server.folder} user=heimdall\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\nmax_client_conn = 200\ndefault_pool_size = 20\n"
            + ("ignore_startup_parameters = options\n" if leaves_out_options else "")
        )
        if account:  # it refuses to run as root
            for path in (self._own, settings):
                os.chown(path, account.pw_uid, account.pw_gid)
        parent = os.getpid()
        with open(self._own / "log", "wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),
                **({"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}),
            )
        wait_for_port(self._port)

    def url(self, direct: str) -> str:
        return f"postgres://heimdall@127.0.0.1:{self._port}{urlsplit(direct).path}"

    def copy(self, name: str, prepare: Callable[[dict[str, str]], None]) -> str:
        """The URL of a site's database, once it is made."""
        self.direct = self.direct or self._server.copy(name, prepare)
        return self.url(self.direct)

    def connect(self, database: str) -> Any:
        return self._server.connect(database)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._own, ignore_errors=True)


@contextmanager
def pooling(server: postgres.Server, *, leaves_out_options: bool = True) -> Iterator[Pooler]:
    pooler = Pooler(server, leaves_out_options=leaves_out_options)
    try:
        yield pooler
    finally:
        pooler.close()
