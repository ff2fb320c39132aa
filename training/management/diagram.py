"""Draws docs/lifecycle.md from the table of rules: `python -m training.management.diagram > docs/lifecycle.md`."""

from __future__ import annotations

from training.lifecycle import RULES, STATES, USER_VERBS, Answer, Rule, Status, Stop, Verb, describe

HEAD = """# The life of a job

Drawn from `training/lifecycle.py` by `make diagram`; a test fails when this page is stale. Do not edit it.

A job's **status** is a fact. Its **stop** is a request that stands beside `running`, so `running` appears here
once for each request: "pausing" is `running` with `stop=pause`, and it becomes `paused` only in the transaction
that makes the verified checkpoint the job's own.

A job of type `external` is trained somewhere else and only reports. It begins as `running`, and the guard
`trained_here` keeps all from it that a worker would have to do: of what people may ask it knows cancel (nothing more
is taken from it, at once) and delete.
"""
_ANSWERS = {
    Answer.DONE: "200, done at once",
    Answer.NOTED: "202, noted",
    Answer.ALREADY: "200, was so already",
}


def page() -> str:
    return (
        "\n".join(
            [
                HEAD,
                _diagram(),
                _table("What people and programs ask for", _by_people(True)),
                _table("What workers, the reaper and the scheduler do", _by_people(False)),
            ]
        )
        + "\n"
    )


def _by_people(asked: bool) -> list[tuple[Verb, Status, Stop, Rule]]:
    return [(verb, *state, rule) for (verb, *state), rule in RULES.items() if (verb in USER_VERBS) is asked]


def _diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> queued: submit"]
    lines += ["    [*] --> running: submit, of a job that is trained elsewhere"]
    lines += [f"    {describe(*state)}" for state in STATES]
    arrows: dict[tuple[str, str], list[str]] = {}
    for (verb, status, stop), rule in RULES.items():
        if rule.writes:
            arrows.setdefault((describe(status, stop), _target(rule)), []).append(str(verb))
    lines += [f"    {source} --> {target}: {', '.join(verbs)}" for (source, target), verbs in arrows.items()]
    return "\n".join([*lines, "```", ""])


def _target(rule: Rule) -> str:
    return describe(rule.to_status, rule.to_stop) if isinstance(rule.to_status, Status) else "[*]"


def _table(title: str, rows: list[tuple[Verb, Status, Stop, Rule]]) -> str:
    lines = [f"## {title}", "", "| verb | from | to | guards | answer |", "|---|---|---|---|---|"]
    for verb, status, stop, rule in rows:
        guards = ", ".join(guard.name for guard in rule.guards) or " "
        target = "gone" if _target(rule) == "[*]" else _target(rule)
        lines.append(f"| {verb} | {describe(status, stop)} | {target} | {guards} | {_ANSWERS[rule.answer]} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
