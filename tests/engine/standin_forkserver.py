"""A fork server of stand-in trainers: without torch, so that it starts at once."""

from heimdall.trainer import forkserver
from tests.engine import standin_trainer

if __name__ == "__main__":
    forkserver.main(standin_trainer.run, needed=())
