"""The doors through which a person or a program asks something of a job, each in one class with one method.

`ask(verb, job, user)` gives the door's answer in one word: done, noted or already; refused (by the job's state);
not_allowed; not_found; login (who are you?). `see` is a verb here too: done when the job is shown.
"""

from __future__ import annotations

import io
import json

from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.http import HttpResponseBase
from django.test import Client

from tests.support.tokens import bearer
from training.management.commands import job as command
from training.models import TrainingJob

SEE = "see"
BY_STATUS = {401: "login", 403: "not_allowed", 404: "not_found", 409: "refused"}


class RestDoor:
    name = "rest"

    def __init__(self, scope: str = "admin") -> None:
        self.scope = scope

    def ask(self, verb: str, job: TrainingJob, user: User | None) -> str:
        headers = {}
        if user is not None:
            headers = bearer(user, self.scope)
        answer = self._send(verb, f"/v1/training/jobs/{job.pk}", headers)
        if answer.status_code in BY_STATUS:
            assert answer.json()["error"]["code"]
            return BY_STATUS[answer.status_code]
        if verb in {SEE, "delete"}:
            assert answer.status_code == (200 if verb == SEE else 204)
            return "done"
        word = answer.json()["answer"]
        assert answer.status_code == (202 if word == "noted" else 200)
        return word

    def _send(self, verb: str, url: str, headers: dict[str, str]) -> HttpResponseBase:
        if verb == SEE:
            return Client().get(url, headers=headers)
        return (
            Client().delete(url, headers=headers)
            if verb == "delete"
            else self._post(f"{url}/{verb}", headers)
        )

    def _post(self, url: str, headers: dict[str, str]) -> HttpResponseBase:
        return Client().post(url, content_type="application/json", headers=headers)


class BulkDoor(RestDoor):
    """The same asked of many jobs at once: here of one."""

    name = "bulk"

    def ask(self, verb: str, job: TrainingJob, user: User | None) -> str:
        if verb == SEE or user is None:
            return super().ask(verb, job, user)
        headers = bearer(user, self.scope)
        body = {"verb": verb, "ids": [job.pk]}
        answer = Client().post(
            "/v1/training/jobs/bulk", body, content_type="application/json", headers=headers
        )
        if answer.status_code in BY_STATUS:
            return BY_STATUS[answer.status_code]
        (result,) = answer.json()["results"]
        code = (result["error"] or {}).get("code")
        return result["answer"] or ("refused" if code == "transition_refused" else code)


class _Browser:
    """A door that is walked through with a session."""

    def _client(self, user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    def _word(self, verb: str, answer: HttpResponseBase) -> str:
        if answer.status_code == 302 and "/login/" in answer["Location"]:
            return "login"
        if answer.status_code in BY_STATUS:
            return BY_STATUS[answer.status_code]
        if verb == SEE:
            return "done" if answer.status_code == 200 else "not_found"
        return answer["X-Heimdall-Answer"]


class PageDoor(_Browser):
    name = "page"

    def ask(self, verb: str, job: TrainingJob, user: User | None) -> str:
        client, url = self._client(user), f"/jobs/{job.pk}/"
        return self._word(verb, client.get(url) if verb == SEE else client.post(f"{url}{verb}/"))


class AdminDoor(_Browser):
    """Open to staff only, so whoever asks is made staff: beyond that it must answer as every other door."""

    name = "admin"

    def ask(self, verb: str, job: TrainingJob, user: User | None) -> str:
        if user is not None and not user.is_staff:
            user.is_staff = True
            user.save(update_fields=["is_staff"])
        client, url = self._client(user), f"/admin/training/trainingjob/{job.pk}"
        return self._word(
            verb, client.get(f"{url}/change/") if verb == SEE else client.post(f"{url}/do/{verb}/")
        )


class CommandDoor:
    """Knows no anonymous people: who may run it says who asks."""

    name = "command"
    words = {command.REFUSED: "refused", command.NOT_ALLOWED: "not_allowed", command.NOT_FOUND: "not_found"}

    def ask(self, verb: str, job: TrainingJob, user: User | None) -> str:
        if user is None:
            return "login"
        out = io.StringIO()
        try:
            words = ["show" if verb == SEE else verb, str(job.pk), "--as", user.username, "--json"]
            call_command("job", *words, stdout=out, stderr=io.StringIO())
        except CommandError as error:
            return self.words[error.returncode]
        except SystemExit as end:
            return self.words[int(end.code or 0)]
        return "done" if verb == SEE else json.loads(out.getvalue())["answer"]


DOORS = (RestDoor(), BulkDoor(), PageDoor(), AdminDoor(), CommandDoor())
