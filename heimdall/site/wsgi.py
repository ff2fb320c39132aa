"""For servers that speak WSGI only. Pages and API work; nothing is pushed."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "heimdall.site.settings")
application = get_wsgi_application()

from heimdall.site import database  # noqa: E402

database.keep_connections("wsgi")
