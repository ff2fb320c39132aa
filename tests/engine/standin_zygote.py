"""A zygote of stand-in fork servers: without torch, so that it starts at once."""

from heimdall.trainer import zygote
from tests.engine import standin_trainer

if __name__ == "__main__":
    zygote.main(standin_trainer.run, needed=())
