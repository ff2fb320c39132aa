"""The web server with rounds that look logins up an hour apart: only what is announced closes a socket."""

from heimdall.site.asgi import application as application
from training.live import consumers

consumers.CHECK_SECONDS = (3_600.0, 3_600.0)
