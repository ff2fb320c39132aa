"""The parent of one cold trainer: a fork server that has imported nothing, and whose fork becomes a new interpreter.

As a subreaper it also gets what the trainer's code has started in a session of its own, and ends that with the
trainer, or with its supervisor. Its arguments are those of a fork server, then the trainer's interpreter and module.
"""

import os
import signal
import sys
import traceback
from functools import partial
from typing import NoReturn

from heimdall.processes import die_with_parent
from heimdall.trainer import forkserver
from heimdall.trainer.cold import start_folder, trainer_command
from heimdall.trainer.launch import NONE, RankEnds

TITLE = "heimdall cold start"


def main() -> NoReturn:
    parent_socket = forkserver.connect()
    forkserver.get_ready([], title=TITLE)
    python, module = sys.argv[3:5]
    forkserver.serve(parent_socket, partial(_become_trainer, python, module))


def _become_trainer(
    python: str, module: str, environment: dict[str, str], ends: RankEnds, server: int
) -> NoReturn:
    try:
        die_with_parent(server)  # the request survives the exec
        signal.signal(forkserver.SUPERVISOR_DIED, signal.SIG_DFL)
        os.setsid()
        forkserver.print_into(ends.log)
        for fd in (ends.control, ends.messages, ends.page):
            if fd != NONE:
                os.set_inheritable(fd, True)
        if (folder := start_folder(python)) is not None:
            os.chdir(folder)
        os.execve(
            python, trainer_command(python, module, ends, server), forkserver.environment_with(environment)
        )
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
