"""What a script has imported, by the versions that the packages say of themselves.

An environment may be another one at a resume: built anew from requirements that pin nothing, upgraded by the host's
administrator, or of another host. The first start's versions stand in each checkpoint's header.
"""

import sys
from collections.abc import Mapping

SAID_ELSEWHERE = frozenset({"torch", "heimdall"})
MOST_NAMED = 8


def versions_of_imported() -> dict[str, str]:
    """Of the packages that this process has imported by now. The standard library has Python's own version."""
    found = {}
    for name in sorted(set(sys.modules) - sys.stdlib_module_names - SAID_ELSEWHERE):
        version = None if "." in name or name.startswith("_") else _version_of(name)
        if isinstance(version, str) and len(version) <= 100:
            found[name] = version
    return found


def why_approximate(first: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Read after "because". What only one of the two imported tells nothing: it may come later."""
    changed = [name for name in first if now.get(name, first[name]) != first[name]]
    named = [f"{name} was {first[name]} and is now {now[name]}" for name in changed[:MOST_NAMED]]
    left_out = len(changed) - len(named)
    return [*named, f"{left_out} further packages have changed"] if left_out else named


def _version_of(name: str) -> object:
    try:
        return getattr(sys.modules[name], "__version__", None)
    except Exception:  # a package's own way of looking its attributes up
        return None
