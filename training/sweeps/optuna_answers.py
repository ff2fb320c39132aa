"""The process that asks Optuna: a question as JSON on standard input, the answer on standard output."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from training.sweeps.plan import SweepPlan
from training.sweeps.space import SearchedField, read_space

FEWEST_FOR_IMPORTANCE = 4


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # of what is experimental
    question = json.load(sys.stdin)
    plan, fields = SweepPlan(**question["plan"]), read_space(question["space"])
    study = _study(plan, fields, question["tried"])
    if question.get("importances"):
        print(json.dumps({"importances": _importances(study)}))
    else:
        print(json.dumps({"params": _asked(study, fields, question, plan)}))


def _study(plan: SweepPlan, fields: list[SearchedField], tried: list[dict[str, Any]]) -> optuna.Study:
    """A study with everything that was tried. What still trains is RUNNING: nobody suggests it a second time."""
    study = optuna.create_study(direction=plan.goal, sampler=_sampler(plan, fields, tried))
    if plan.suggester == "qmc":
        return study  # its sequence knows nothing of values: it goes on after as many as were tried
    for one in tried:
        study.add_trial(_trial(fields, one))
    return study


def _trial(fields: list[SearchedField], one: dict[str, Any]) -> optuna.trial.FrozenTrial:
    values = [(int(epoch), value) for epoch, value in one["values"]]
    state = TrialState.COMPLETE if values else TrialState.FAIL if one["is_over"] else TrialState.RUNNING
    chosen = {f.name: _distribution(f) for f in fields if f.name in one["params"]}
    return create_trial(
        state=state,
        value=values[-1][1] if values else None,
        params={name: one["params"][name] for name in chosen},
        distributions=chosen,
        intermediate_values=dict(values),
    )


def _finished(
    plan: SweepPlan, fields: list[SearchedField], tried: list[dict[str, Any]]
) -> list[optuna.trial.FrozenTrial]:
    """CMA-ES keeps its state in trials of its own; from others it takes where to begin (warm start)."""
    return [_trial(fields, one) for one in tried if one["values"]]


def _sampler(
    plan: SweepPlan, fields: list[SearchedField], tried: list[dict[str, Any]]
) -> optuna.samplers.BaseSampler:
    """The same question gets the same answer, and each next one another."""
    seed = (plan.seed * 1_000_003 + len(tried)) % 2**31
    match plan.suggester:
        case "grid":
            return optuna.samplers.GridSampler({f.name: list(f.values) for f in fields}, seed=plan.seed)
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=8)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed, source_trials=_finished(plan, fields, tried) or None
            )
        case "qmc":
            return optuna.samplers.QMCSampler(seed=plan.seed, scramble=True)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


def _asked(
    study: optuna.Study, fields: list[SearchedField], question: dict[str, Any], plan: SweepPlan
) -> list[dict[str, Any]]:
    count, tried = question["count"], question["tried"]
    if plan.suggester == "grid":
        return _next_of_grid(fields, [one["params"] for one in tried], count)
    skipped = len(tried) if plan.suggester == "qmc" else 0
    return [_chosen(study.ask(), fields) for _ in range(skipped + count)][skipped:]


def _next_of_grid(
    fields: list[SearchedField], tried: list[dict[str, Any]], count: int
) -> list[dict[str, Any]]:
    """In the order of the lists, the last one turning fastest."""
    found: list[dict[str, Any]] = [{}]
    for field in fields:
        found = [one | {field.name: value} for one in found for value in field.values]
    return [one for one in found if one not in tried][:count]


def _chosen(trial: optuna.Trial, fields: list[SearchedField]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for field in fields:
        if not field.counts(chosen):
            continue
        match field.kind:
            case "choice" | "grid":
                chosen[field.name] = trial.suggest_categorical(field.name, field.values)
            case "int" | "log_int":
                chosen[field.name] = trial.suggest_int(field.name, *field.values, log=field.kind == "log_int")
            case _:
                is_log = field.kind == "log_uniform"
                chosen[field.name] = trial.suggest_float(field.name, *field.values, log=is_log)
    return chosen


def _distribution(field: SearchedField) -> BaseDistribution:
    match field.kind:
        case "choice" | "grid":
            return CategoricalDistribution(field.values)
        case "int" | "log_int":
            return IntDistribution(*field.values, log=field.kind == "log_int")
    return FloatDistribution(*field.values, log=field.kind == "log_uniform")


def _importances(study: optuna.Study) -> dict[str, float]:
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_FOR_IMPORTANCE or len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(value), 4) for name, value in found.items()}


if __name__ == "__main__":
    main()
