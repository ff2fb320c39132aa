"""The command `heimdall`. `--help` imports all of it, so httpx and websockets are imported where they are used."""
