"""A driver that runs a script as `python train.py` does, with nobody around it: what it prints and writes is all."""

import os
import runpy
import sys
from pathlib import Path

from heimdall.attached.attach import supervise
from heimdall.attached.program import Program
from heimdall.trainer.channel import Channel


def run(channel: Channel) -> int:
    program = Program.model_validate(channel.spec.program["program"])
    supervise(None)
    os.chdir(channel.spec.folder)
    sys.argv = [str(program.script), *program.arguments]
    sys.path.insert(0, channel.spec.folder)
    runpy.run_path(str(Path(channel.spec.folder) / str(program.script)), run_name="__main__")
    return 0
