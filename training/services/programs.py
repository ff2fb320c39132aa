"""Programs in the place of recipes: what is checked of one before it becomes a job, and the code that it brings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import IO, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.deletion import ProtectedError
from django.db.models.functions import Now
from django.utils import timezone

from heimdall.attached.program import (
    LONGEST_WORD,
    NO_SOURCES,
    UV,
    Program,
    ProgramSettings,
    environment_sources,
)
from heimdall.code_archive import BadArchive
from heimdall.errors import InvalidConfig, InvalidInput
from heimdall.recipes import registry
from training import placement, policy
from training.errors import NotAllowed, StorageUnavailable
from training.lifecycle import JobType
from training.models import BroughtCode, CodeArchive, TrainingJob, code_storage
from training.services import exactness, limits
from training.services.clock import in_seconds
from training.services.secrets import SecretsLost, opened, sealed
from training.store import code as store

MAX_EPOCHS = 100_000
SHORTEST_SECRET = 6
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{0,64}")


@dataclass(frozen=True)
class CheckedProgram:
    """What a new job that runs a program has in the place of a recipe."""

    program: dict[str, Any]
    code: CodeArchive
    secrets: str
    config: dict[str, Any]
    total_epochs: int

    def columns(self) -> dict[str, Any]:
        return {
            "job_type": JobType.TRAINING,
            "program": self.program,
            "code": self.code,
            "secrets": self.secrets,
            "config": self.config,
            "total_epochs": self.total_epochs,
            "shown_exact_on": exactness.places_shown(self.program, self.code),
        }


def require_programs(by: Any) -> None:
    """Raise NotAllowed where programs are turned off, or this actor may run none."""
    if not settings.PROGRAMS:
        raise NotAllowed("Programs are turned off on this server (HEIMDALL_PROGRAMS=0): use a recipe.")
    policy.require_running_programs(by)


def keep_code(source: IO[bytes], *, by: Any, commit: str = "", is_dirty: bool = False) -> CodeArchive:
    """Keep the code that somebody brings, once for each content. Raises InvalidInput for what is no such archive."""
    require_programs(by)
    if not _COMMIT.fullmatch(commit):
        raise InvalidInput({"commit": ["A commit of git is written with at most 64 hexadecimal digits."]})
    try:
        with store.received(source) as found:
            code = _brought_again(found.digest) or _store(found, owner=by)
    except BadArchive as error:
        raise InvalidInput({"code": [str(error)]}) from error
    BroughtCode.objects.update_or_create(
        code=code, owner=by, defaults={"commit": commit, "is_dirty": is_dirty}
    )
    return code


def code_named(digest: Any, *, by: Any) -> CodeArchive:
    """The code with this digest, for who brought it or sees a job that runs it: its digest alone, which may stand in
    a log or in a message, lets nobody run it. It stays until the transaction ends."""
    text = digest if isinstance(digest, str) else ""
    found = CodeArchive.objects.select_for_update(no_key=True).filter(digest=text).first()
    if not _DIGEST.fullmatch(text) or found is None or not _may_run(found, by):
        raise InvalidInput(
            {"code": ["There is no code with this digest here: upload it first (POST /v1/training/code)."]}
        )
    return found


def delete_unused_code() -> list[str]:
    """Delete code that no job names and nobody brought lately, and archives of the store without a row."""
    limit = in_seconds(-settings.ORPHAN_GRACE_SECONDS)
    unused = CodeArchive.objects.filter(jobs=None, brought_at__lt=limit)
    gone = [str(row.file) for row in unused if _delete_row(row.pk, unused)]
    oldest = timezone.now() - timedelta(seconds=settings.ORPHAN_GRACE_SECONDS)
    known = set(CodeArchive.objects.values_list("file", flat=True))
    gone += [
        name
        for name in store.stored_names()
        if name not in known and name not in gone and _is_older(name, oldest)
    ]
    for name in gone:
        store.delete_file(name)
    return gone


def checked(
    program: Any, code: Any, config: Any, *, by: Any, secrets: Any = None, kept_secrets: str = ""
) -> CheckedProgram:
    """What a job of this program has. kept_secrets: sealed already, for those of which no value is given."""
    require_programs(by)
    given_values = _clean_secrets(secrets)
    given = dict(program) if isinstance(program, dict) else program
    if given_values and isinstance(given, dict) and not given.get("secrets"):
        given["secrets"] = sorted(given_values)
    described = _described(given)
    values = _kept_values(described, kept_secrets) | given_values
    _require_values(described, values)
    archive = code_named(code, by=by)
    described = _decided(described, archive)
    _require_environment(described, archive)
    settled = _clean_config(config)
    epochs = settled.get("epochs")
    is_count = isinstance(epochs, int) and not isinstance(epochs, bool) and 0 < epochs <= MAX_EPOCHS
    return CheckedProgram(
        program=described.model_dump(mode="json"),
        code=archive,
        secrets=sealed(values),
        config=settled,
        total_epochs=epochs if isinstance(epochs, int) and is_count else 0,
    )


def is_program(job: TrainingJob | Any) -> bool:
    return bool(job.program)


def _brought_again(digest: str) -> CodeArchive | None:
    CodeArchive.objects.filter(digest=digest).update(brought_at=Now())
    return CodeArchive.objects.filter(digest=digest).first()


def _may_run(code: CodeArchive, by: Any) -> bool:
    """Whether they had its content. Of a job's code that they see, they have it from now on, as that job shows it."""
    if isinstance(by, policy.System) or code.brought.filter(owner=by.pk).exists():
        return True
    seen = policy.visible_jobs(by).filter(code=code).order_by("-id").first()
    if seen is None:
        return False
    of_job = code.brought.filter(owner=seen.owner_id).first() or BroughtCode()
    facts = {"commit": of_job.commit, "is_dirty": of_job.is_dirty}
    BroughtCode.objects.get_or_create(code=code, owner=by, defaults=facts)
    return True


def _store(found: store.ExaminedCode, *, owner: Any) -> CodeArchive:
    limits.require_room_for_code(owner, found.path.stat().st_size)
    name, file_size = store.store(found)
    facts = {"size": found.size, "names": found.names, "file": name, "file_size": file_size}
    try:
        with transaction.atomic():
            row = CodeArchive.objects.create(digest=found.digest, owner=owner, **facts)
    except IntegrityError:  # somebody brought the same meanwhile
        store.delete_file(name)
        row = CodeArchive.objects.get(digest=found.digest)
    row.refresh_from_db()
    return row


def _delete_row(pk: int, unused: QuerySet[CodeArchive]) -> bool:
    try:
        with transaction.atomic():
            CodeArchive.objects.select_for_update().filter(pk=pk).first()
            return bool(unused.filter(pk=pk).delete()[0])
    except (ProtectedError, IntegrityError):
        return False  # a job came to name it since we looked


def _is_older(name: str, limit: Any) -> bool:
    try:
        return bool(code_storage().get_modified_time(name) < limit)
    except (OSError, StorageUnavailable):
        return False


def _described(program: Any) -> Program:
    try:
        return registry.checked(Program, program)
    except InvalidConfig as error:
        raise InvalidInput({f"program.{name}": texts for name, texts in error.fields.items()}) from error


def _decided(program: Program, code: CodeArchive) -> Program:
    """The program with its kind: a Python file that mentions heimdall is a script, all else is a command."""
    names = set(code.names)
    if program.directory and not any(
        PurePosixPath(program.directory) in PurePosixPath(n).parents for n in names
    ):
        raise InvalidInput({"program.directory": [f"The code holds no folder {program.directory!r}."]})
    script = program.script and (PurePosixPath(program.directory) / program.script).as_posix()
    if script and script not in names and not PurePosixPath(script).is_absolute():
        raise InvalidInput({"program.command": [f"The code holds no file {script!r}."]})
    if program.kind:
        return program
    is_script = bool(program.hook) or bool(
        script and script in names and "heimdall" in store.text_of(code, script)
    )
    kind = "script" if is_script else "command"
    return _described(program.model_dump(mode="json") | {"kind": kind})


def _require_environment(program: Program, code: CodeArchive) -> None:
    name, refused = program.environment, ""
    if name == UV and not environment_sources(set(code.names), program.directory):
        refused = NO_SOURCES
    elif name and name != UV and name not in (known := placement.environments_known()):
        choices = ", ".join([*known, UV])
        refused = f"No host has the environment {name!r}: choose one of {choices} (HEIMDALL_ENVIRONMENTS)."
    if refused:
        raise InvalidInput({"program.environment": [refused]})


def _clean_config(config: Any) -> dict[str, Any]:
    """Any JSON object of a bounded size; what Heimdall itself reads of it is checked."""
    given = registry.free_form({} if config is None else config)
    registry.checked(
        ProgramSettings, {name: given[name] for name in ProgramSettings.model_fields if name in given}
    )
    return given


def _clean_secrets(secrets: Any) -> dict[str, str]:
    if secrets is None:
        return {}
    if not isinstance(secrets, dict) or not all(isinstance(value, str) for value in secrets.values()):
        raise InvalidInput({"secrets": ["Give an object of names and texts."]})
    for name, value in secrets.items():
        if not SHORTEST_SECRET <= len(value) <= LONGEST_WORD or "\0" in value:
            raise InvalidInput(
                {
                    "secrets": [
                        f"The value of {str(name)[:60]} must have {SHORTEST_SECRET} to {LONGEST_WORD} characters and "
                        "no NUL: what is shorter cannot be hidden in a log."
                    ]
                }
            )
    return secrets


def _kept_values(program: Program, kept: str) -> dict[str, str]:
    """Of the secrets of another job those that this program names; none where the secret key is another one now."""
    try:
        return {name: value for name, value in opened(kept).items() if name in program.secrets}
    except SecretsLost:
        return {}


def _require_values(program: Program, values: dict[str, str]) -> None:
    """Each secret has a value, and nothing has one that the program does not name."""
    missing, unknown = set(program.secrets) - set(values), set(values) - set(program.secrets)
    both = set(program.secrets) & set(program.variables)
    if missing or unknown or both:
        said = [f"{name} needs a value." for name in sorted(missing)]
        said += [f"The program names no secret {name[:60]}." for name in sorted(unknown)]
        said += [f"{name} is among the variables too, where everybody sees it." for name in sorted(both)]
        raise InvalidInput({"secrets": said})
