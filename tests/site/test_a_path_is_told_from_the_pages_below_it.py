"""Heimdall below a path: a proxy hands it on or takes it away, and both are the same page."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest
from django.urls import get_resolver

from heimdall.site.prefix import OWN_PAGES, bare_path, below, below_wsgi, full_path


@pytest.mark.parametrize(
    ("asked", "full", "bare"),
    [
        ("/lab/heimdall/jobs/7/", "/lab/heimdall/jobs/7/", "/jobs/7/"),
        ("/jobs/7/", "/lab/heimdall/jobs/7/", "/jobs/7/"),
        ("/lab/heimdall/", "/lab/heimdall/", "/"),
        ("/lab/heimdall", "/lab/heimdall/", "/"),
        ("/", "/lab/heimdall/", "/"),
        ("", "/lab/heimdall/", ""),
        ("/lab/heimdaller/", "/lab/heimdall/lab/heimdaller/", "/lab/heimdaller/"),
        ("//elsewhere.example/", "/lab/heimdall//elsewhere.example/", "//elsewhere.example/"),
    ],
)
def test_a_path_with_and_without_the_prefix_is_one_page(asked, full, bare):
    assert full_path("/lab/heimdall", asked) == full
    assert bare_path("/lab/heimdall", asked) == bare
    assert bare_path("", asked) == asked


def test_no_page_of_ours_can_be_taken_for_the_prefix():
    pages = {str(pattern.pattern).split("/")[0] for pattern in get_resolver().url_patterns}
    below_the_root = {
        str(pattern.pattern).split("/")[0]
        for entry in get_resolver().url_patterns
        if str(entry.pattern) == ""
        for pattern in entry.url_patterns
    }
    assert (pages | below_the_root) - {""} | {"static", "ws"} == OWN_PAGES


@pytest.mark.parametrize("path", ["/heimdall/jobs/7/", "/jobs/7/"])
def test_every_kind_of_server_tells_the_application_its_path(path):
    seen = []

    async def application(scope, receive, send):
        seen.append((scope["root_path"], scope["path"]))

    asyncio.run(below("/heimdall", application)({"type": "http", "path": path, "root_path": ""}, None, None))
    below_wsgi("/heimdall", lambda environ, start: seen.append(environ["PATH_INFO"]))(
        {"PATH_INFO": path}, None
    )
    assert seen == [("/heimdall", "/heimdall/jobs/7/"), "/jobs/7/"]


LOOK = """
import json, threading
import django
django.setup()
from django.conf import settings
from training.services.outbox import _address_of
found = []
thread = threading.Thread(target=lambda: found.append(_address_of("job", 7)))
thread.start(); thread.join()
print(json.dumps([_address_of("job", 7), *found, settings.SESSION_COOKIE_PATH, settings.CSRF_COOKIE_PATH,
                  settings.STATIC_URL, settings.SECURE_REDIRECT_EXEMPT]))
"""


@pytest.mark.parametrize(
    ("url", "path"), [("https://lab.example.org/heimdall", "/heimdall"), ("https://a.org/", "")]
)
def test_links_in_messages_and_cookies_have_the_path_once_in_every_thread(tmp_path, url, path):
    environment = os.environ | {"HEIMDALL_DATA_DIR": str(tmp_path), "HEIMDALL_URL": url}
    said = subprocess.run(
        [sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=True
    ).stdout
    begin = url.rstrip("/")
    assert json.loads(said) == [
        f"{begin}/jobs/7/",
        f"{begin}/jobs/7/",
        f"{path}/",
        f"{path}/",
        f"{path}/static/",
        [f"^{path[1:] + '/' if path else ''}(healthz|readyz|metrics)$"],
    ]
