"""The trainer process: `python -m training.engine.trainer`, started by a supervisor and led over a pipe."""

from training.engine import process


def main() -> None:
    # First of all: a supervisor that ends while torch is being imported must not leave us behind.
    channel = process.connect()
    from training.engine.work import run

    channel.finish(run(channel))


if __name__ == "__main__":
    main()
