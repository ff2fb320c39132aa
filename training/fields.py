"""What a job's name, description, tags, pool and priority may hold, for models, services and every door.

Each `clean_` function gives back the value as it is stored, or raises InvalidInput with the field and the remedy.
"""

from __future__ import annotations

import re
from typing import Any

from heimdall.errors import InvalidInput

NAME_LENGTH, DESCRIPTION_LENGTH = 200, 10_000

MAX_TAGS = 20  # of one job
TAG_LENGTH = 40
TAG_PATTERN = r"[a-z0-9][a-z0-9._:/+\-]{0,39}"
TAG = re.compile(TAG_PATTERN)
TAG_RULE = (
    f"take 1 to {TAG_LENGTH} lower-case letters, digits and . _ : / + -, beginning with a letter or a digit."
)

POOL_LENGTH = 50
POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")
POOL_RULE = "use letters, digits, dots, dashes and underscores, at most 50."

LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100
PRIORITY_RULE = f"Give a whole number from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}."

# Control characters, line separators, and marks that turn the direction of what follows.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_SPACES = r"\x20\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
# One line: at least one sign that is no space, and nothing hidden. The API's schema shows these patterns.
NAME_PATTERN = rf"[^{_HIDDEN}]*[^{_HIDDEN}{_SPACES}][^{_HIDDEN}]*"
NAME_RULE = "Give a name that is not blank and holds no control character."
# Several lines: tab, line feed and carriage return may stand there too.
TEXT_PATTERN = r"[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*"
TEXT_RULE = "The text holds a control character; remove it."
_HIDDEN_SIGN = re.compile(rf"[{_HIDDEN}\ud800-\udfff]")  # half of a surrogate pair cannot be stored either


def clean_name(name: Any, *, field: str = "job_name", of: str = "the job", longest: int = NAME_LENGTH) -> str:
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput({field: [f"Give {of} a name."]})
    name = name.strip()
    if len(name) > longest:
        raise InvalidInput({field: [f"The name has {len(name)} characters; at most {longest} fit."]})
    if _HIDDEN_SIGN.search(name):
        raise InvalidInput({field: ["The name holds a control character; remove it."]})
    return name


def clean_description(text: Any) -> str:
    if not isinstance(text, str) or len(text) > DESCRIPTION_LENGTH:
        raise InvalidInput({"description": [f"Give a text of at most {DESCRIPTION_LENGTH} characters."]})
    if any(sign not in "\n\r\t" for sign in _HIDDEN_SIGN.findall(text)):
        raise InvalidInput({"description": ["The description holds a control character; remove it."]})
    return text


def clean_priority(priority: Any) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidInput({"priority": [PRIORITY_RULE]})
    if not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise InvalidInput({"priority": [PRIORITY_RULE]})
    return priority


def clean_tags(tags: Any) -> list[str]:
    """Each tag once, in the order given."""
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidInput({"tags": ["Give a list of tags."]})
    found = list(dict.fromkeys(tags))
    if len(found) > MAX_TAGS:
        raise InvalidInput({"tags": [f"A job has at most {MAX_TAGS} tags, and these are {len(found)}."]})
    for tag in found:
        if not TAG.fullmatch(tag):
            raise InvalidInput({"tags": [f"{tag[:60]!r} is not a tag; {TAG_RULE}"]})
    return found


def clean_pool(pool: Any) -> str:
    """A pool without a node is accepted: the node may come later, and until then the job says what it waits for."""
    if not isinstance(pool, str) or (pool and not POOL.fullmatch(pool)):
        raise InvalidInput({"pool": [f"This is no name of a pool; {POOL_RULE}"]})
    return pool
