"""A real server and worker with people, a dataset and jobs in every state: what screenshots and axe look at.

    with staged() as stage, stage.open(SHOTS[0], theme="dark") as page: ...

Nothing on it is drawn by hand: the jobs are run, paused, killed and resumed here, in a minute or two.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.browser.conftest import FLAGS, NAMES
from tests.support.running import Site, running

NAME, PASSWORD = "anna", "long enough for a picture"
PEOPLE = f"""
from django.conf import settings
from django.contrib.auth.models import Group, User
from tests.support.tokens import token_of
team = Group.objects.create(name="radio")
for name in ("{NAME}", "bert"):
    user = User.objects.create_user(name, password="{PASSWORD}", email=name + "@example.org")
    user.groups.add(team)
    (settings.DATA_DIR / ("token-of-" + name)).write_text(token_of(user))
User.objects.filter(username="{NAME}").update(is_staff=True, is_superuser=True)
"""
THEMES = ("light", "dark")
_SHORT = {"epochs": 8, "samples_per_epoch": 384, "max_chars": 100_000, "device": "cpu"}
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@dataclass(frozen=True)
class Shot:
    """One page: its name, its address among what was staged, and what has to be there before it is looked at."""

    name: str
    path: str
    sign: str = "main h1"
    before: Callable[[Any], None] | None = None
    stranger: bool = False  # looked at without a login
    not_ours: str = ""  # what axe finds in the markup of somebody else's library


def _ask_about_the_evening(page: Any) -> None:
    """The shipped file of reports, located."""
    page.set_input_files("#file", EVENING)
    page.click("button[value=page]")


EVENING = Path(__file__).parents[2] / "examples" / "localization" / "evening.csv"
SHOTS = (
    Shot("login", "/login/", stranger=True),
    Shot("jobs", "/", "#link-state[data-state=open]"),
    Shot("job", "/jobs/{running}/", "#link-state[data-state=open]"),
    Shot("job-map", "/jobs/{located}/", "[data-artifact] svg, [data-artifact] canvas"),
    Shot("locate", "/jobs/{located}/locate/", "#map path.coast", before=_ask_about_the_evening),
    Shot("job-failed", "/jobs/{failed}/", "pre.trace"),
    Shot("job-paused", "/jobs/{paused}/", ".state-paused"),
    Shot("pause", "/jobs/{running}/pause/", "form.ask"),
    Shot("new-job", "/jobs/new/"),
    Shot("fork", "/jobs/{paused}/fork/"),
    Shot("extend", "/jobs/{first}/extend/"),
    Shot("compare", "/compare/?jobs={first},{second}"),
    Shot("datasets", "/datasets/"),
    Shot("dataset", "/datasets/{dataset}/", "[data-artifact] svg, [data-artifact] canvas"),
    Shot("queue", "/queue/"),
    Shot("nodes", "/nodes/"),
    Shot("node", "/nodes/gpu-1/"),
    Shot("activity", "/activity/"),
    Shot("account", "/settings/account/"),
    Shot("notifications", "/settings/notifications/"),
    Shot("subscription", "/settings/notifications/{webhook}/"),
    Shot("api", "/v1/docs/", ".opblock-tag", not_ours="nested-interactive"),
    Shot("admin", "/admin/", "#live"),
)


class Stage:
    """What was staged, and a browser to look at it."""

    def __init__(self, site: Site, browser: Any, names: dict[str, Any]):
        self._site, self._browser, self._names = site, browser, names
        self._login = self._log_in()

    @contextmanager
    def open(self, shot: Shot, *, theme: str = "light", size: str = "desktop") -> Iterator[Any]:
        width, height = SIZES[size]
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            reduced_motion="reduce",
            storage_state=None if shot.stranger else self._login,
        )
        try:
            page = context.new_page()
            answer = page.goto(self._site.url + shot.path.format(**self._names))
            assert answer.ok, f"{shot.name}: {answer.status} {answer.url}"
            if shot.before:
                shot.before(page)
            page.locator(shot.sign).first.wait_for(state="attached")
            page.wait_for_timeout(700)  # curves, maps and times are drawn after the first paint
            yield page
        finally:
            context.close()

    def _log_in(self) -> Any:
        """The cookies of somebody who logged in."""
        page = self._browser.new_page()
        page.goto(f"{self._site.url}/login/")
        page.fill("#id_username", NAME)
        page.fill("#id_password", PASSWORD)
        page.click("text=Log in")
        page.wait_for_url(f"{self._site.url}/")
        return page.context.storage_state()


@contextmanager
def staged() -> Iterator[Stage]:
    from playwright.sync_api import sync_playwright

    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    assert path, "Pictures need Chromium."
    with tempfile.TemporaryDirectory(prefix="heimdall-gallery-") as name, _chat() as chat:
        folder = Path(name)
        (folder / "texts" / "empty").mkdir(parents=True)
        settings = {
            "HEIMDALL_RECIPES": "",
            "HEIMDALL_SLOTS": "2",
            "HEIMDALL_NODE_NAME": "gpu-1",
            "HEIMDALL_TEXT_FOLDERS": str(folder / "texts"),
            "HEIMDALL_WEBHOOK_ALLOW": "localhost",
            "HEIMDALL_LEASE_SECONDS": "10",
            "HEIMDALL_HEARTBEAT_SECONDS": "1",
        }
        with running(folder, **settings) as site, sync_playwright() as driver:
            assert site.start("shell", "-v0", "-c", PEOPLE).wait(timeout=60) == 0
            names = _Cast(site, folder, chat).play()
            browser = driver.chromium.launch(executable_path=path, args=FLAGS)
            yield Stage(site, browser, names)
            browser.close()


class _Cast:
    """Plays the jobs, and says what is where afterwards."""

    def __init__(self, site: Site, folder: Path, chat: str):
        self.site, self.folder, self.chat = site, folder, chat

    def play(self) -> dict[str, Any]:
        self._be(NAME)
        names = {"webhook": self._subscribe()}
        names |= self._ended()
        names["paused"] = self._paused()
        names["running"] = self._running()
        self._waiting()
        self._watch_and_test(names["running"], names["webhook"])
        return names

    def _ended(self) -> dict[str, Any]:
        """Data, a localization on it, two trainings to compare, and one that fails."""
        dataset, located = self._localization()
        failed = self._job("poems, no corpus", text_folder=str(self.folder / "texts" / "empty"), priority=5)
        first = self._interrupted("poems, baseline", learning_rate=0.003)
        second = self._job("poems, higher rate", learning_rate=0.01, tags=["sweep"])
        self.site.wait_for_status(failed, "failed", seconds=200)
        for job in (first, second, located):
            self.site.wait_for_status(job, "completed", seconds=400)
        return {"dataset": dataset, "located": located, "failed": failed, "first": first, "second": second}

    def _paused(self) -> int:
        """One that another member of the team pauses."""
        job = self._job("poems, wide", epochs=40, width=96)
        self.site.wait_for(job, lambda seen: seen["current_epoch"] >= 2, seconds=200)
        self._be("bert")
        self.site.pause(job, "step")
        self.site.wait_for_status(job, "paused")
        self._be(NAME)
        return job

    def _running(self) -> int:
        """Two that take both slots for as long as pictures are taken; the first one crashed once."""
        long = {"epochs": 120, "layers": 4, "width": 128}
        first, _ = (self._job(f"poems, long, seed {seed}", seed=seed, **long) for seed in (1, 2))
        self.site.wait_for(first, lambda seen: seen["current_epoch"] >= 1, seconds=200)
        self.site.the("trainer", f"job {first}").kill()
        self.site.wait_for(
            first, lambda seen: seen["attempt"] >= 2 and seen["current_epoch"] >= 3, seconds=200
        )
        return first

    def _waiting(self) -> None:
        mistake = self._job("a typing mistake", priority=-10)
        self.site.verb(mistake, "cancel")
        self._be("bert")
        for number in (1, 2, 3):
            self._job(f"nightly {number}", epochs=20, priority=-number, tags=["nightly"])
        self._be(NAME)

    def _watch_and_test(self, job: int, webhook: int) -> None:
        self.site.request("PUT", f"/v1/training/jobs/{job}/watch")
        self.site.post(f"/subscriptions/{webhook}/test")
        self.site.wait_until(self._is_sent(webhook), seconds=60)

    def _job(self, name: str, *, recipe: str = "language_model", priority: int = 0, **config: Any) -> int:
        about = {name: config.pop(name) for name in ("tags", "team", "description") if name in config}
        if recipe == "language_model":
            config = _SHORT | config
        body = {"job_name": name, "recipe": recipe, "priority": priority, "config": config, "team": "radio"}
        return self.site.post("/jobs", body | about)["id"]

    def _be(self, name: str) -> None:
        """Ask as this person from now on."""
        (self.site.data / "api-token").write_text((self.site.data / f"token-of-{name}").read_text())

    def _localization(self) -> tuple[str, int]:
        made = self._job("coast", recipe="rf_dataset", samples=8_000, samples_per_shard=1_000, seed=1)
        located = self._job(
            "where is it?", recipe="localization", dataset="coast", samples=8_000, epochs=6, batch_size=128,
            learning_rate=0.003, device="cpu", tags=["radio"],
        )  # fmt: skip
        self.site.wait_for_status(made, "completed", seconds=200)
        return self.site.job(made)["dataset"], located

    def _interrupted(self, name: str, **config: Any) -> int:
        job = self._job(name, **config)
        self.site.wait_for(job, lambda seen: seen["current_epoch"] >= 2, seconds=200)
        self.site.pause(job, "step")
        self.site.wait_for_status(job, "paused", "completed")
        self.site.verb(job, "resume")
        return job

    def _subscribe(self) -> int:
        hook = {"via": "webhook", "target": self.chat, "topics": ["completed", "failed", "paused", "crashed"]}
        return self.site.post("/subscriptions", hook)["id"]

    def _is_sent(self, webhook: int) -> Callable[[], bool]:
        def asked() -> bool:
            rows = self.site.get(f"/subscriptions/{webhook}/deliveries")["results"]
            return bool(rows) and rows[0]["topic"] == "test" and rows[0]["tries"] > 0

        return asked


@contextmanager
def _chat() -> Iterator[str]:
    """Something that takes messages as a chat server does; the first one it is too busy for."""
    answers = [503]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop() if answers else 200
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"ok" if status == 200 else b"busy, try again later")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/hooks/radio"
    server.shutdown()
    server.server_close()
