"""A check's result for people."""

from heimdall.check.checking import CONTROLS, EXACT, CheckResult

TITLES = {
    "exact": "EXACT",
    "differs": "DIFFERS",
    "not_repeatable": "NOT REPEATABLE",
    "not_checked": "NOT CHECKED",
}


def as_text(result: CheckResult) -> str:
    """A table of what was tried, and the verdict."""
    lines = [f"{TITLES[result.verdict]}: {result.reason}", ""]
    if result.steps:
        lines.append(f"  steps trained            {result.steps}")
    lines += [f"  stopped after step       {', '.join(map(str, plan))}" for plan in result.stops]
    for control in result.controls:
        seen = "noticed" if control.was_noticed else "NOT NOTICED: the result is the same"
        lines.append(f"  without {CONTROLS[control.name]:<27}{seen}")
    if result.verdict != EXACT and result.first_state:
        lines.append(f"  first difference         {result.first_state}")
    if result.environment:
        found = result.environment
        lines.append(f"  on                       {found.get('device_name')}, torch {found.get('torch')}")
    if result.values:
        lines.append(f"  values of all steps      {result.values[:12]}")
    return "\n".join(lines) + "\n"
