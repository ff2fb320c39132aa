"""`heimdall.attach`: the one call by which a script becomes a job."""

from collections.abc import Mapping
from typing import Any

import torch

from heimdall.attached.loop import Alone, Host, Job

_host: Host | None = None
_job: Job | None = None


def attach(
    trainer: Any = None,
    /,
    *,
    seed: int | None = None,
    config: Mapping[str, Any] | None = None,
    report: str | bool | None = None,
    **parts: Any,
) -> Any:
    """Make this script a job, which Heimdall can stop and resume between any two steps. Returns the `Job`.

    parts: what must survive a pause, by name: models, optimizers, schedulers, scalers, averages; anything with
    `state_dict` and `load_state_dict`. More may be named later with `job.keep(...)`, before the loop.
    config: the script's own defaults; `job.config` has what was asked for the job over them.
    seed: of the order of the data; by default the one of `torch.manual_seed`.
    report: a name, or True: where Heimdall did not start the script, it is reported to the server of `heimdall login`
    (or of HEIMDALL_SERVER and HEIMDALL_TOKEN) as a job of that name. HEIMDALL_REPORT=name says the same for a script
    that does not. Without either nothing leaves this machine.
    trainer: a Hugging Face or a Lightning Trainer in the place of a loop of one's own; it is returned.

    Alone (`python script.py`) nothing is saved, and the results are the same bits. Raises RuntimeError where the
    script is attached already or the trainer's version is not known, TypeError for a trainer of another kind.
    """
    global _job
    if _job is not None:
        raise RuntimeError("this script is attached already: keep the job that heimdall.attach() gave")
    if trainer is not None and _host is not None and _host.rank_of[1] > 1:
        raise RuntimeError(
            f"heimdall.attach(trainer) trains on one device, and this job has {_host.rank_of[1]}: set devices to 1, "
            "or write the loop with job.epochs() and job.batches() around DistributedDataParallel"
        )
    defaults = dict(config or {})
    host = _host or _alone(report, defaults)
    job = Job(host, seed=torch.initial_seed() if seed is None else seed, defaults=defaults)
    job.keep(**parts)
    _job = job
    return job if trainer is None else _adapter_for(trainer)(trainer, job)


def _alone(report: str | bool | None, config: dict[str, Any]) -> Host:
    from heimdall.attached.reporting import asked_for, reported

    name = asked_for(report)
    return reported(name, config=config, attached=attached_job) if name else Alone()


def _adapter_for(trainer: Any) -> Any:
    families = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(trainer).__mro__}
    if "transformers.Trainer" in families:
        from heimdall.attached.hugging_face import attach_trainer as attach_hugging_face

        return attach_hugging_face
    if families & {"lightning.Trainer", "pytorch_lightning.Trainer"}:
        from heimdall.attached.lightning import attach_trainer

        return attach_trainer
    raise TypeError(
        f"heimdall.attach() was given a {type(trainer).__name__}: give a Trainer of Hugging Face or of Lightning, or "
        "name the parts of a loop of your own: heimdall.attach(model=model, optimizer=optimizer)"
    )


def supervise(host: Host | None) -> None:
    """Say what is around the script that runs next in this process. Called by the driver, and by tests."""
    global _host, _job
    _host, _job = host, None


def attached_job() -> Job | None:
    """The job of the script that runs, once it is attached."""
    return _job
