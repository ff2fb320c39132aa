"""Whether the web server of this container answers: exit code 0 or 1. It asks /healthz by a name that is allowed."""

import os
import sys
import urllib.error
import urllib.request

port = os.environ.get("HEIMDALL_PORT") or "8000"
allowed = (os.environ.get("HEIMDALL_ALLOWED_HOSTS") or "").split(",")[0].strip()
host = allowed.lstrip(".*") or "127.0.0.1"  # of `.example.org` and `*` too
request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz", headers={"Host": host})
try:
    with urllib.request.urlopen(request, timeout=4) as answer:
        sys.exit(answer.status != 200)
except (OSError, urllib.error.URLError) as error:
    sys.exit(f"the web server does not answer: {error}")
