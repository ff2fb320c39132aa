# Made of asynchronous/client.py by `make client`: change it there.
"""The client: one server, asked as one person."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from heimdall.client import answers, bodies, profiles
from heimdall.client.errors import NotHeimdall
from heimdall.client.profiles import Profile
from heimdall.client.synchronous.downloads import save
from heimdall.client.synchronous.jobs import RemoteJob
from heimdall.client.synchronous.transport import ServerConnection

if TYPE_CHECKING:
    from heimdall.client.reporting import Reporter


class Client:
    """A Heimdall server.

    Without arguments it is the one that `heimdall login` made known last, or that `HEIMDALL_SERVER` and
    `HEIMDALL_TOKEN` name. `profile` chooses another of those that are known; `url` and `token` name one by hand.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str = "",
        profile: str | None = None,
        certificates: str = "",
        timeout: float = 30.0,
    ) -> None:
        by_hand = Profile(profiles.clean_url(url), token, certificates=certificates) if url else None
        self.server = ServerConnection(by_hand or profiles.chosen(profile), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.server.close()

    def __repr__(self) -> str:
        return f"<Client of {self.server.profile.url}>"

    # Jobs.

    def submit(
        self,
        recipe: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        description: str | None = None,
        priority: int | None = None,
        pool: str | None = None,
        tags: Iterable[str] | None = None,
        team: str | None = None,
        key: str | None = None,
        **settings: Any,
    ) -> RemoteJob:
        """Queue a job of a recipe: `submit("wave", epochs=20)`. Settings go over those of `config`.

        A lost answer is asked for again under the same `key`, which is made here where none is given, so that there
        is one job whatever happens.
        """
        about = bodies.about(name or recipe, description, priority, pool, tags, team)
        body = about | {"recipe": recipe, "config": {**(config or {}), **settings}}
        return self._submit(body, key)

    def try_submission(
        self,
        recipe: str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        description: str | None = None,
        priority: int | None = None,
        pool: str | None = None,
        tags: Iterable[str] | None = None,
        team: str | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """What `submit` would make, without making it: config, memory, where it would run and about when."""
        body = bodies.about(name or recipe, description, priority, pool, tags, team)
        body |= {"recipe": recipe, "config": {**(config or {}), **settings}}
        return self.server.ask("POST", "/v1/training/jobs/try", body=body)

    def submit_program(
        self,
        command: Sequence[str],
        *,
        folder: str | Path = ".",
        program: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        description: str | None = None,
        priority: int | None = None,
        pool: str | None = None,
        tags: Iterable[str] | None = None,
        team: str | None = None,
        key: str | None = None,
    ) -> RemoteJob:
        """Queue a program of your own, such as ["python", "train.py"], with the code of `folder`.

        `program` says more of how it is run, as docs/scripts.md describes; of `secrets` only the names are shown.
        """
        code = self.upload_code(folder)
        more = {"secrets": sorted(secrets)} if secrets else {}
        body = bodies.about(name or bodies.command_name(command), description, priority, pool, tags, team)
        body |= {"program": {**(program or {}), "command": list(command), **more}, "code": code["digest"]}
        body |= answers.given(
            config=dict(config) if config else None, secrets=dict(secrets) if secrets else None
        )
        return self._submit(body, key)

    def external(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        team: str | None = None,
        source: str | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        key: str | None = None,
    ) -> Reporter:
        """A job for a training that runs here, wherever that is, and only reports:

        `with client.external("wave") as report: report.log(loss=loss)`. A thread sends, and nothing waits for it.
        """
        from heimdall.client.reporting import Reporter

        body = bodies.about(name, description, None, None, tags, team)
        body |= answers.given(
            source=source or platform.node() or None, total_epochs=epochs, total_steps=steps
        )
        body |= {"config": dict(config)} if config else {}
        shown = self.server.post("/v1/training/jobs/external", body, key=key)
        return Reporter(self.server.profile, job=RemoteJob(self.server, shown).id)

    def upload_code(self, folder: str | Path = ".") -> dict[str, Any]:
        """Bring the code of a folder, without what git ignores. The same code is kept once."""
        from heimdall import code_archive  # not for those who only look

        with tempfile.TemporaryDirectory(prefix="heimdall-") as place:
            packed = code_archive.pack(Path(folder), Path(place) / "code.tar.gz")
            query = {"commit": packed.commit, "is_dirty": str(packed.is_dirty).lower()}
            content, media_type = packed.path.read_bytes(), "application/octet-stream"
            return self.server.upload("/v1/training/code", content, query=query, media_type=media_type)

    def job(self, number: int) -> RemoteJob:
        return RemoteJob(self.server, self.server.get(f"/v1/training/jobs/{int(number)}"))

    def jobs(
        self,
        *,
        most: int | None = None,
        tags: Iterable[str] = (),
        where: str | Iterable[str] = (),
        **filters: Any,
    ) -> Iterator[RemoteJob]:
        """Newest first, all that you may see: `jobs(status="running", search="wave", ordering="-priority")`.

        `where` are conditions on configs and metrics, such as "config.lr<0.1" and "lowest.val_rmse<2"; `ordering` may
        name such a column, too. docs/api.md names the filters. A value may be a list where it names several.
        """
        query = bodies.list_query(filters, tags, where) | {"page_size": min(200, most or 200)}
        for row in self.server.pages("/v1/training/jobs", query, most=most):
            yield RemoteJob(self.server, row)

    def table(
        self,
        fields: Iterable[str],
        *,
        most: int | None = None,
        tags: Iterable[str] = (),
        where: str | Iterable[str] = (),
        **filters: Any,
    ) -> list[dict[str, Any]]:
        """Some fields of the jobs that `jobs` would find: `table(["id", "config.lr", "lowest.val_rmse"])`."""
        query = bodies.list_query(filters, tags, where)
        query |= {"fields": ",".join(fields), "page_size": min(200, most or 200)}
        return list(self.server.pages("/v1/training/jobs", query, most=most))

    def export(
        self,
        path: str | Path,
        *,
        format: str | None = None,
        fields: Iterable[str] = (),
        tags: Iterable[str] = (),
        where: str | Iterable[str] = (),
        **filters: Any,
    ) -> Path:
        """All jobs that `jobs` would find as a file: CSV, JSON lines or Parquet, as the name's ending says."""
        target = Path(path)
        query = bodies.list_query(filters, tags, where) | {"format": format or bodies.format_of(target)}
        if names := list(fields):
            query["fields"] = ",".join(names)
        return save(self.server, "/v1/training/jobs/export", query, target)

    def ask_many(self, verb: str, *, query: str = "", ids: Iterable[int] | None = None) -> dict[str, Any]:
        """One verb of many jobs: of those with these numbers, or the first 500 that a query finds."""
        which = {"ids": list(ids)} if ids is not None else {"query": query}
        return self.server.post("/v1/training/jobs/bulk", {"verb": verb} | which)

    # What there is.

    def recipes(self) -> list[dict[str, Any]]:
        return list(self.server.pages("/v1/training/recipes"))

    def nodes(self) -> list[dict[str, Any]]:
        """The machines that run workers, with the job of each slot."""
        return list(self.server.pages("/v1/training/nodes"))

    def datasets(self) -> list[dict[str, Any]]:
        return list(self.server.pages("/v1/training/datasets", {"page_size": 200}))

    def about(self) -> dict[str, Any]:
        """The server's name and version, and where its API is described."""
        return self.server.get("/v1/")

    def me(self) -> dict[str, Any]:
        """Who asks: name, teams and rights of the token."""
        found = self.server.get("/v1/me")
        if not {"username", "rights"} <= set(found or ()):
            raise NotHeimdall(
                f"{self.server.profile.url} does not say who asks: it is no server of Heimdall."
            )
        return found

    def _submit(self, body: Mapping[str, Any], key: str | None) -> RemoteJob:
        shown = self.server.post("/v1/training/jobs", body, key=key)
        return RemoteJob(self.server, shown)
