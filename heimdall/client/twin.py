"""`make client`: the synchronous client, made of the asynchronous one word by word."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCE, TARGET = HERE / "asynchronous", HERE / "synchronous"
WORDS = [
    (r"\[(\w+) async for \1 in (.+)\]", r"list(\2)"),
    (r"\basync (def|with|for) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\bimport asyncio\b", "import time"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bwebsockets\.asyncio\b", "websockets.sync"),
    (r"\bheimdall\.client\.asynchronous\b", "heimdall.client.synchronous"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\ba(close|read|iter_bytes)\b", r"\1"),
    (r"\bAsync([A-Z]\w+)\b", r"\1"),
    (
        r"for code with an event loop\. The synchronous one is made of these modules",
        "for code without an event loop",
    ),
]
NOTE = "# Made of asynchronous/{name} by `make client`: change it there.\n"


def synchronous(text: str, name: str) -> str:
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    lines = text.splitlines(keepends=True)
    seen = set()
    kept = [line for line in lines if not (line == "import time\n" and (line in seen or seen.add(line)))]
    return NOTE.format(name=name) + "".join(kept)


def made() -> dict[str, str]:
    """Each module of the synchronous client by its name, in ruff's form."""
    return {
        path.name: _in_order(synchronous(path.read_text(), path.name)) for path in sorted(SOURCE.glob("*.py"))
    }


def _in_order(text: str) -> str:
    for words in (("check", "--quiet", "--select", "I", "--fix"), ("format", "--quiet")):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", str(TARGET / "any.py"), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for file_name, content in made().items():
        (TARGET / file_name).write_text(content)
