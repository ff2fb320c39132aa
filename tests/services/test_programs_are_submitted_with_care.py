"""Programs as jobs: who may run one, what is refused of it, what becomes of its code and its secrets."""

import io
import tarfile
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db.models import F
from django.utils import timezone

from heimdall.errors import InvalidInput
from tests.conftest import give_checkpoint, put
from tests.support.checkpoint_files import stored
from tests.support.programs import HELLO, archive_of, kept, submitted, tar_of
from training import placement, policy, queries, services
from training.errors import NotAllowed, TransitionRefused
from training.models import Checkpoint, CodeArchive, TrainingJob, code_storage
from training.queries.code import commit_of

pytestmark = pytest.mark.django_db
SECRET = "correct horse battery"


@pytest.fixture
def programmer(alice):
    alice.groups.add(Group.objects.get(name=policy.PROGRAMMERS))
    return type(alice).objects.get(pk=alice.pk)  # its permissions are not cached yet


def refused(by, field, **fields) -> str:
    with pytest.raises(InvalidInput) as error:
        submitted(by, **fields)
    assert set(error.value.fields) == {field}, error.value.fields
    return " ".join(error.value.fields[field])


def test_programmers_and_administrators_alone_may_run_programs(alice, programmer, bob, admin_user, settings):
    for person in (programmer, admin_user):
        assert submitted(person).status == "queued"
    with pytest.raises(NotAllowed, match="group 'programmers'"):
        submitted(bob)
    bob.user_permissions.add(Permission.objects.get(codename="run_programs"))
    bob = type(bob).objects.get(pk=bob.pk)
    job = submitted(bob)
    settings.PROGRAMS = False
    with pytest.raises(NotAllowed, match="HEIMDALL_PROGRAMS=0"):
        submitted(admin_user)
    assert placement.waiting_reasons([job])[job.pk].code == "no_programs"
    assert TrainingJob.objects.count() == 3


def test_a_group_that_an_administrator_changed_stays_as_it_is(programmer):
    group = Group.objects.get(name=policy.PROGRAMMERS)
    group.permissions.clear()
    call_command("migrate", verbosity=0)
    assert not group.permissions.exists()


@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({"program": {"command": []}}, "program.command", "at least 1"),
        ({"program": {"command": ["python", "other.py"]}}, "program.command", "holds no file 'other.py'"),
        ({"program": {"command": ["ls"], "directory": "src"}}, "program.directory", "holds no folder 'src'"),
        ({"program": {"command": ["ls"], "directory": "../up"}}, "program.directory", "leads out of the code"),
        ({"program": {"command": ["ls"], "kind": "script"}}, "program.command", "python FILE.py"),
        ({"program": {"command": ["ls"], "hook": "lightning"}}, "program.hook", "python FILE.py"),
        ({"program": {"command": ["ls"], "comand": 1}}, "program.comand", "not a field of this program"),
        ({"program": {"command": ["", "ls"]}}, "program.command", "first word is empty"),
        ({"program": {"command": ["ls"], "checkpoint_folder": "/a"}}, "program.checkpoint_folder", "leads out"),
        ({"program": {"command": ["ls"], "environment": "gone"}}, "program.environment", "HEIMDALL_ENVIRONMENTS"),
        ({"program": {"command": ["ls"], "metric_patterns": ["("]}}, "program.metric_patterns", "no regular"),
        ({"program": {"command": ["ls"], "metric_patterns": ["(?P<a>{5555555555})"]}}, "program.metric_patterns", ""),
        ({"program": {"command": ["ls"], "metric_patterns": ["a"]}}, "program.metric_patterns", "(?P<loss>...)"),
        ({"program": {"command": ["ls"], "variables": {"LD_PRELOAD": "x"}}}, "program.variables", "another name"),
        ({"program": {"command": ["ls"], "variables": {"CUDA_VISIBLE_DEVICES": ""}}}, "program.variables", "leave"),
        ({"program": {"command": ["ls"], "grace_seconds": 0.0}}, "program.grace_seconds", "above 0"),
        ({"program": {"command": ["ls"], "secrets": ["KEY"]}}, "secrets", "KEY needs a value"),
        ({"program": {"command": ["ls"], "hook": "lighting"}}, "program.hook", "one of hugging_face, lightning, not"),
        ({"secrets": {"KEY": "short"}}, "secrets", "6 to"),
        ({"secrets": {"PATH_": SECRET}, "program": {"command": ["ls"], "secrets": ["KEY"]}}, "secrets", "no secret"),
        ({"config": {"keep_last": -1}}, "keep_last", "0"),
        ({"config": {"x": float("nan")}}, "config", "NaN"),
        ({"config": {"x": "y" * 200_000}}, "config", "longer than"),
        ({"config": {"x": [{"a\0": 1}]}}, "config", "a NUL"),
        ({"config": {"x": ["\ud800"]}}, "config", "half of a surrogate pair"),
        ({"recipe": "tiny"}, "program", "not both"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_remedy(admin_user, fields, field, remedy):
    assert remedy in refused(admin_user, field, **fields)
    assert not TrainingJob.objects.exists()


def test_code_that_is_not_there_is_named(admin_user):
    with pytest.raises(InvalidInput, match="upload it first"):
        services.submit(by=admin_user, job_name="a", config={}, program={"command": ["ls"]}, code="0" * 64)


def test_a_file_that_mentions_heimdall_is_a_script_and_all_else_a_command(admin_user):
    kinds = {
        "script": {"train.py": "import heimdall\n"},
        "command": HELLO,
    }
    for kind, files in kinds.items():
        job = submitted(admin_user, files=files)
        assert job.program["kind"] == kind
    described = {"command": ["python", "train.py"], "checkpoint_folder": "kept"}
    for own in (
        {"checkpoint_folder": "kept"},
        {"metric_patterns": ["loss=(?P<loss>.+)"]},
        {"pause_signal": "USR1"},
    ):
        program = {"command": ["python", "train.py"]} | own
        said = refused(admin_user, f"program.{next(iter(own))}", files=kinds["script"], program=program)
        assert "Leave this out, or run the script as a command" in said
    job = submitted(admin_user, files=kinds["script"], program=described | {"kind": "command"})
    assert (job.program["kind"], queries.promise(job)) == ("command", "its own checkpoints")


def test_code_is_kept_once_however_often_and_by_whomever_it_is_brought(admin_user, programmer):
    before = set(code_storage().names("archives"))
    first, second = kept(admin_user), kept(programmer)
    assert (first.pk, first.owner, first.names) == (second.pk, admin_user, ["train.py"])
    assert set(first.brought.values_list("owner__username", flat=True)) == {"root", "alice"}
    as_tar_makes_it = tarfile.TarInfo("./train.py")
    as_tar_makes_it.mode = 0o664
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    by_hand = tar_of((folder, b""), (as_tar_makes_it, HELLO["train.py"].encode()))
    assert services.keep_code(io.BytesIO(by_hand), by=programmer).pk == first.pk
    assert set(code_storage().names("archives")) == before | {str(first.file)}


def test_a_digest_lets_nobody_run_code_whose_content_they_did_not_have(admin_user, programmer, mallory, team):
    mallory.groups.add(Group.objects.get(name=policy.PROGRAMMERS))
    stranger = type(mallory).objects.get(pk=mallory.pk)
    code = services.keep_code(io.BytesIO(archive_of(HELLO)), by=admin_user, commit="a" * 40, is_dirty=True)
    program = {"command": ["ls"]}

    def submit(by):
        return services.submit(by=by, job_name="x", config={}, program=program, code=code.digest).job

    for by in (stranger, programmer):
        with pytest.raises(InvalidInput, match="no code with this digest"):
            submit(by)
    seen = services.submit(
        by=admin_user, job_name="x", config={}, program=program, code=code.digest, team=team
    ).job
    assert seen.code == code
    cloned = services.clone(seen, by=programmer).job  # a member of the team sees that job, and what it runs
    assert commit_of(cloned).commit == "a" * 40
    services.cancel(seen, by=admin_user)
    services.delete(seen, by=admin_user)
    assert submit(programmer).code == code
    with pytest.raises(InvalidInput, match="no code with this digest"):
        submit(stranger)
    kept(stranger)
    assert (submit(stranger).code, commit_of(submit(stranger)).commit) == (code, "")


def test_the_group_that_may_run_programs_is_no_team(admin_user, programmer, mallory):
    group = Group.objects.get(name=policy.PROGRAMMERS)
    mallory.groups.add(group)
    mallory = type(mallory).objects.get(pk=mallory.pk)
    assert [team.name for team in policy.nameable_teams(admin_user)] == ["radio"]
    assert list(policy.teams_of(programmer).values()) == ["radio"]
    for person in (admin_user, programmer):
        with pytest.raises(InvalidInput, match="not in this team"):
            submitted(person, team=group)
        with pytest.raises(InvalidInput, match="not in this team"):
            policy.team_named(policy.PROGRAMMERS, person)
    job = submitted(programmer)
    TrainingJob.objects.filter(pk=job.pk).update(team=group)  # from a time when it could be given
    assert not policy.visible_jobs(mallory).exists()


def link(name, to):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member


def device(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (tar_of((tarfile.TarInfo("../up.py"), b"x")), "leads out of it"),
        (tar_of((tarfile.TarInfo("/etc/passwd"), b"x")), "leads out of it"),
        (tar_of((link("a", "../../etc"), b"")), "link that leads out"),
        (tar_of((device("a"), b"")), "no file"),
        (tar_of((tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo("./a"), b"y")), "twice"),
        (tar_of(), "holds no file"),
        (tar_of((tarfile.TarInfo("a"), bytes(2_000_000))), "more than 1 MB"),
        (b"no archive", "cannot be read"),
    ],
    ids=["up", "root", "link", "device", "twice", "empty", "bomb", "text"],
)
def test_an_archive_that_is_not_safe_is_refused_and_leaves_nothing(admin_user, settings, archive, why):
    settings.CODE_MB, before = 1, set(code_storage().names("archives"))
    with pytest.raises(InvalidInput) as error:
        services.keep_code(io.BytesIO(archive), by=admin_user)
    assert why in " ".join(error.value.fields["code"])
    assert not CodeArchive.objects.exists()
    assert set(code_storage().names("archives")) == before
    assert not list(settings.STAGING_DIR.glob("code-*"))


def test_secrets_are_kept_encrypted_and_are_shown_nowhere(admin_user, settings):
    job = submitted(admin_user, secrets={"API_KEY": SECRET})
    assert job.program["secrets"] == ["API_KEY"]
    assert SECRET not in job.secrets
    assert services.opened(job.secrets) == {"API_KEY": SECRET}
    shown = [queries.job_dict(job, admin_user), list(job.events.values()), list(TrainingJob.objects.values())]
    assert SECRET not in str(shown)
    settings.SECRET_KEY = "another one"
    with pytest.raises(services.SecretsLost, match="Submit it again"):
        services.opened(job.secrets)


def test_secrets_go_along_with_those_who_gave_them_alone(programmer, admin_user):
    job = submitted(programmer, secrets={"API_KEY": SECRET})
    own = services.clone(job, by=programmer).job
    assert services.opened(own.secrets) == {"API_KEY": SECRET}
    with pytest.raises(InvalidInput, match="API_KEY needs a value"):
        services.clone(job, by=admin_user)
    other = services.clone(job, by=admin_user, secrets={"API_KEY": "another value"}).job
    assert services.opened(other.secrets) == {"API_KEY": "another value"}
    without = services.clone(job, by=programmer, program={"command": ["ls"]}).job
    assert without.secrets == ""


def test_a_clone_may_bring_other_code_and_another_command(programmer, bob, team):
    job = submitted(programmer, config={"epochs": 3}, team=team)
    code = kept(programmer, {"fixed.py": "print(1)"})
    changed = services.clone(
        job, by=programmer, program={"command": ["python", "fixed.py"]}, code=code.digest, config={"lr": 1}
    ).job
    assert (changed.code, changed.config, changed.parent) == (code, {"epochs": 3, "lr": 1}, job)
    assert changed.total_epochs == 3
    with pytest.raises(NotAllowed, match="programmers"):
        services.clone(job, by=bob)  # of the team: sees it, and may run none


def test_a_recipe_is_not_cloned_into_a_program(make_job, admin_user):
    with pytest.raises(InvalidInput, match="runs a recipe"):
        services.clone(make_job(), by=admin_user, program={"command": ["ls"]}, code=kept(admin_user).digest)


def test_code_goes_when_no_job_runs_it_and_nobody_brought_it_lately(admin_user, settings):
    job = submitted(admin_user)
    unused, fresh = (kept(admin_user, {"a.py": text}) for text in ("1", "2"))
    long_ago = timezone.now() - timedelta(seconds=settings.ORPHAN_GRACE_SECONDS + 60)
    CodeArchive.objects.exclude(pk=fresh.pk).update(brought_at=long_ago)
    assert str(unused.file) in services.delete_unused_code()
    assert set(CodeArchive.objects.all()) == {job.code, fresh}
    there = set(code_storage().names("archives"))
    assert {str(job.code.file), str(fresh.file)} <= there
    assert str(unused.file) not in there


@pytest.mark.parametrize("files", [HELLO, {"train.py": "import heimdall\n"}], ids=["command", "script"])
def test_checkpoints_of_programs_are_retired_as_those_of_recipes(admin_user, files):
    jobs = [
        submitted(admin_user, files=files, config=config) for config in ({}, {"keep_last": 1, "keep_best": 0})
    ]
    for job in jobs:
        for step in range(1, 6):
            give_checkpoint(job, step=step, epoch=step, kinds=("periodic", "best"))
        Checkpoint.objects.filter(job=job, step=2).update(pinned=True)
        Checkpoint.objects.filter(job=job).update(val_loss=F("step"))
        services.retire_checkpoints(job)
    kept_steps = [set(Checkpoint.objects.filter(job=job).values_list("step", flat=True)) for job in jobs]
    assert kept_steps == [{1, 2, 4, 5}, {2, 5}]  # without a word of it: the newest two, and the best


def test_a_person_without_the_permission_brings_no_code(bob):
    with pytest.raises(NotAllowed):
        services.keep_code(io.BytesIO(archive_of(HELLO)), by=bob)


def finished(by, tmp_path, **fields) -> TrainingJob:
    job = submitted(by, files={"train.py": "import heimdall\n"}, **fields)
    TrainingJob.objects.filter(pk=job.pk).update(
        status="completed", current_step=24, current_epoch=3, completed_at=timezone.now()
    )
    job.refresh_from_db()
    stored(job, tmp_path, step=24, epoch=3)
    job.refresh_from_db()
    return job


def test_a_fork_begins_from_a_checkpoint_with_mended_code(programmer, tmp_path):
    job = finished(programmer, tmp_path, secrets={"API_KEY": SECRET}, config={"epochs": 3, "lr": 1})
    code = kept(programmer, {"train.py": "import heimdall  # mended\n"})
    fork = services.fork(job, by=programmer, code=code.digest, config={"epochs": 6}).job
    assert (fork.code, fork.program, fork.config) == (code, job.program, {"epochs": 6, "lr": 1})
    assert (fork.current_step, fork.total_epochs, fork.parent) == (24, 6, job)
    assert services.opened(fork.secrets) == {"API_KEY": SECRET}
    assert fork.latest_checkpoint.file.name != job.latest_checkpoint.file.name
    with pytest.raises(InvalidInput, match="which of it are the weights"):
        services.fork(job, by=programmer, carry="weights")


def test_a_program_is_extended_where_its_settings_have_epochs(programmer, tmp_path):
    job = finished(programmer, tmp_path, config={"epochs": 3})
    more = services.extend(job, by=programmer, epochs=2).job
    assert (more.config["epochs"], more.total_epochs, more.current_epoch) == (5, 5, 3)
    with pytest.raises(TransitionRefused, match="has no epochs"):
        services.extend(finished(programmer, tmp_path), by=programmer, epochs=2)


def test_deleting_the_last_job_of_some_code_lets_the_code_go(programmer, tmp_path, settings):
    job = finished(programmer, tmp_path)
    code = job.code
    services.delete(job, by=programmer)
    assert services.delete_unused_code() == []
    assert CodeArchive.objects.filter(pk=code.pk).exists()  # it was brought a moment ago
    settings.ORPHAN_GRACE_SECONDS = 0
    services.delete_unused_code()
    assert not CodeArchive.objects.filter(pk=code.pk).exists()


def test_code_counts_with_what_one_person_may_keep(programmer, admin_user, settings):
    code = kept(admin_user)
    settings.MAX_CHECKPOINT_GB_PER_PERSON = 1e-9
    assert kept(programmer) == code  # nothing further is stored
    with pytest.raises(InvalidInput, match="HEIMDALL_MAX_CHECKPOINT_GB_PER_PERSON"):
        kept(programmer, {"other.py": "1"})
    settings.MAX_CHECKPOINT_GB_PER_PERSON, settings.MIN_FREE_DISK_GB = 1.0, 1e9
    with pytest.raises(InvalidInput, match="HEIMDALL_MIN_FREE_DISK_GB"):
        kept(programmer, {"other.py": "1"})


@pytest.mark.parametrize("at", ["epoch", "step"])
def test_a_command_that_is_to_pause_is_said_to_be_asked_at_once(admin_user, at):
    job = submitted(admin_user, files={"go.sh": "true"}, program={"command": ["bash", "go.sh"]})
    put(job, "running")
    answer = services.pause(job, by=admin_user, at=at)
    assert answer.message == f"Job {job.pk} will pause now: it is asked to save and leave."
    assert queries.headline(answer.job) == "pausing: it was asked to save and leave"
