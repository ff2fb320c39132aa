"""The trainer process: `python -m heimdall.trainer.__main__`, started by a supervisor and led over a pipe."""

from heimdall.trainer.channel import connect, drive


def main() -> None:
    # First of all: a supervisor that ends while torch is being imported must not leave us behind.
    channel = connect()
    channel.finish(drive(channel))


if __name__ == "__main__":
    main()
