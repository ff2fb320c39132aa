"""A fork server of stand-in trainers: without torch, so that it starts at once."""

from tests.engine import standin_trainer
from training.engine import forkserver

if __name__ == "__main__":
    forkserver.main(standin_trainer.run, needed=())
