"""The form of a program, on the pages and in the admin: a file, a command, and what it is given."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.pages.conftest import html, words
from tests.support.programs import archive_of, kept, submitted
from training import services
from training.models import TrainingJob

pytestmark = pytest.mark.django_db
SCRIPT = "import heimdall\nprint('<b>hello</b>')\n"
SECRET = "correct horse battery"
FORMS = {
    "page": "/jobs/new/program/",
    "admin": "/admin/training/trainingjob/add/?program=1",
}


def file(name="train.py", content=SCRIPT):
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def entered(**changes):
    usual = {"job_name": "from the page", "priority": "0", "config": "", "variables": "", "secrets": ""}
    return usual | {"metric_patterns": "", "grace_seconds": "30", "pause_signal": "TERM"} | changes


@pytest.mark.parametrize("url", FORMS.values(), ids=FORMS)
def test_a_single_script_becomes_a_job(browse, admin_user, url):
    assert 'enctype="multipart/form-data"' in html(browse(admin_user).get(url))
    sent = entered(
        code=file(),
        config='{"epochs": 3}',
        variables="MODE=fast\nPLACE=here=there",
        secrets=f"API_KEY={SECRET}",
    )
    answer = browse(admin_user).post(url, sent)
    assert answer.status_code == 302, words(html(answer))
    job = TrainingJob.objects.get()
    assert job.program["command"] == ["python", "train.py"]
    assert (job.program["kind"], job.total_epochs) == ("script", 3)
    assert job.program["variables"] == {"MODE": "fast", "PLACE": "here=there"}
    assert services.opened(job.secrets) == {"API_KEY": SECRET}


@pytest.mark.parametrize("url", FORMS.values(), ids=FORMS)
def test_settings_that_are_nested_too_deep_are_refused_beside_their_field(browse, admin_user, url):
    answer = browse(admin_user).post(url, entered(code=file(), config="[" * 50_000))
    assert "This is nested too deep." in words(html(answer))
    assert not TrainingJob.objects.exists()


def test_an_address_with_settings_that_are_nested_too_deep_fills_in_its_text(browse, admin_user):
    deep = "[" * 1_500
    filled = html(browse(admin_user).get("/jobs/new/", {"recipe": "localization", "config.receivers": deep}))
    assert deep in filled


def test_a_folder_and_a_command_become_a_job(browse, admin_user):
    code = archive_of({"src/go.sh": "echo hello\n"})
    sent = entered(
        code=file("code.tar.gz", code),
        command="bash go.sh 'two words'",
        directory="src",
        checkpoint_folder="kept",
        resume_arguments="--resume",
        pause_signal="USR1",
        metric_patterns="loss=(?P<loss>[0-9.]+)\nacc (?P<acc>[0-9.]+)",
    )
    assert browse(admin_user).post(FORMS["page"], sent).status_code == 302
    program = TrainingJob.objects.get().program
    assert (program["kind"], program["command"]) == ("command", ["bash", "go.sh", "two words"])
    assert (program["directory"], program["pause_signal"], program["resume_arguments"]) == (
        "src",
        "USR1",
        ["--resume"],
    )
    assert len(program["metric_patterns"]) == 2


@pytest.mark.parametrize("url", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Choose a file"),
        ({"code": file("train.ipynb")}, "neither a .py file nor a .tar.gz"),
        ({"code": file("code.tar.gz", b"no archive"), "command": "ls"}, "cannot be read"),
        ({"code": file("code.tar.gz", archive_of({"a.py": "1"}))}, "Say what is to be started"),
        ({"code": file(), "command": "python 'train.py"}, "A shell could not read this"),
        ({"code": file(), "command": "python other.py"}, "holds no file"),
        ({"code": file(), "directory": "src"}, "holds no folder"),
        ({"code": file(), "config": "[1]"}, "Write a JSON object"),
        ({"code": file(), "config": "{epochs: 3}"}, "names stand in double quotes"),
        ({"code": file(), "config": '{"seed": "x"}'}, "seed"),
        ({"code": file(), "variables": "MODE"}, "Line 1 is not of the form NAME=VALUE"),
        ({"code": file(), "secrets": "K=short"}, "6 to 4000 characters"),
        ({"code": file(), "metric_patterns": "("}, "no regular expression"),
        ({"code": file(), "kind": "script", "checkpoint_folder": "runs"}, "are for commands"),
        ({"code": file(), "kind": "script", "grace_seconds": "77"}, "are for commands"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_beside_the_form(browse, admin_user, url, changes, sentence):
    for upload in changes.values():
        if not isinstance(upload, str):
            upload.seek(0)
    answer = browse(admin_user).post(url, entered(**changes))
    assert answer.status_code == 400
    assert sentence in words(html(answer))
    assert not TrainingJob.objects.exists()


@pytest.mark.parametrize("url", FORMS.values(), ids=FORMS)
def test_a_secret_does_not_come_back_with_the_form(browse, admin_user, url):
    answer = browse(admin_user).post(url, entered(secrets=f"API_KEY={SECRET}", variables="MODE=fast"))
    assert "MODE=fast" in html(answer)
    assert SECRET not in html(answer)


def test_who_may_run_none_is_not_offered_the_form(browse, alice, admin_user, settings):
    assert FORMS["page"] in html(browse(admin_user).get("/jobs/new/"))
    assert FORMS["page"] not in html(browse(alice).get("/jobs/new/"))
    assert browse(alice).get(FORMS["page"]).status_code == 403
    alice.is_staff = True
    alice.save()
    assert browse(alice).get(FORMS["admin"]).status_code == 403
    settings.PROGRAMS = False
    assert FORMS["page"] not in html(browse(admin_user).get("/jobs/new/"))
    for url in FORMS.values():
        assert browse(admin_user).post(url, entered(code=file())).status_code == 403


def test_a_clone_has_the_same_code_unless_another_is_given(browse, admin_user):
    files = {"train.py": SCRIPT, "lib/x.py": "1"}
    job = submitted(admin_user, files=files, secrets={"API_KEY": SECRET}, config={"epochs": 3})
    form = html(browse(admin_user).get(f"/jobs/new/?from={job.pk}"))
    assert "python train.py" in form
    assert SECRET not in form
    sent = entered(command="python train.py --lr 1", config='{"epochs": 4}')
    assert browse(admin_user).post(f"/jobs/new/?from={job.pk}", sent).status_code == 302
    copied = TrainingJob.objects.exclude(pk=job.pk).get()
    assert (copied.code, copied.parent, copied.total_epochs) == (job.code, job, 4)
    assert services.opened(copied.secrets) == {"API_KEY": SECRET}


def test_the_page_shows_command_code_and_promise(browse, admin_user):
    program = {"command": ["python", "train.py", "--name", "<i>x</i>"], "variables": {"MODE": "fast"}}
    job = submitted(admin_user, files={"train.py": SCRIPT}, program=program, secrets={"API_KEY": SECRET})
    text = html(browse(admin_user).get(f"/jobs/{job.pk}/"))
    shown = words(text)
    for part in ("python train.py --name", "MODE fast", job.code.digest[:12], "not shown to be exact"):
        assert part in shown, part
    assert "API_KEY secret" in shown
    assert SECRET not in text
    assert "<i>x</i>" not in text
    assert f'href="/jobs/{job.pk}/code/train.py"' in text
    changed = html(browse(admin_user).get(f"/admin/training/trainingjob/{job.pk}/change/"))
    assert job.code.digest in changed
    assert SECRET not in changed
    listed = words(html(browse(admin_user).get("/")))
    assert "python train.py --name" in listed
    assert "not shown to be exact" in listed


def test_a_program_of_no_known_length_shows_its_steps_and_no_shards(browse, admin_user):
    job = submitted(admin_user)
    TrainingJob.objects.filter(pk=job.pk).update(current_step=1_200, current_epoch=2)
    listed = words(html(browse(admin_user).get("/")))
    assert "epoch 2, step 1,200" in listed
    assert "1,200 shards" not in listed
    assert "Epoch 2 , step 1,200" in words(html(browse(admin_user).get(f"/jobs/{job.pk}/")))
    TrainingJob.objects.filter(pk=job.pk).update(total_epochs=4)
    assert "Epoch 2 of 4" in words(html(browse(admin_user).get(f"/jobs/{job.pk}/")))


def test_files_of_the_code_are_shown_as_text_to_those_who_see_the_job(browse, admin_user, alice):
    job = submitted(
        admin_user, files={"lib/page.html": "<script>alert(1)</script>"}, program={"command": ["ls"]}
    )
    answer = browse(admin_user).get(f"/jobs/{job.pk}/code/lib/page.html")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert browse(admin_user).get(f"/jobs/{job.pk}/code/other.py").status_code == 404
    whole = b"".join(browse(admin_user).get(f"/jobs/{job.pk}/code/").streaming_content)
    assert whole == archive_of({"lib/page.html": "<script>alert(1)</script>"})
    for url in (f"/jobs/{job.pk}/code/", f"/jobs/{job.pk}/code/lib/page.html"):
        assert browse(alice).get(url).status_code == 404


def test_a_pause_of_a_command_says_what_it_is_worth(browse, admin_user, make_job):
    job = submitted(
        admin_user, program={"command": ["ls"], "checkpoint_folder": "kept", "pause_signal": "USR1"}
    )
    claimed = make_job(status="running")
    TrainingJob.objects.filter(pk=claimed.pk).update(
        recipe="", program=job.program, code=job.code, owner=admin_user
    )
    text = words(html(browse(admin_user).get(f"/jobs/{claimed.pk}/pause/")))
    assert "sent SIGUSR1 and has 30 s" in text
    assert "what it saved there itself" in text
    assert "epoch" not in text


def test_programs_are_compared_by_their_command_and_code(browse, admin_user):
    first = submitted(admin_user)
    second = submitted(admin_user, files={"b.py": "2"}, program={"command": ["python", "b.py"]})
    assert kept(admin_user) == first.code
    text = words(html(browse(admin_user).get(f"/compare/?jobs={first.pk},{second.pk}")))
    assert "Settings 2 differ" in text
    assert f"#{first.pk} #{second.pk} Command python train.py python b.py" in text
    assert f"Code {first.code.digest[:12]} {second.code.digest[:12]}" in text
    assert "Environment" not in text
    file = browse(admin_user).get(f"/compare/?jobs={first.pk},{second.pk}&format=csv").content.decode()
    assert f"code,{first.code.digest},{second.code.digest}" in file
