"""For servers that speak WSGI only. Pages and API work; nothing is pushed."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "heimdall.site.settings")
application = get_wsgi_application()

from django.conf import settings  # noqa: E402

from heimdall.site import database  # noqa: E402
from heimdall.site.prefix import below_wsgi  # noqa: E402

application = below_wsgi(settings.URL_PREFIX, application)
database.keep_connections("wsgi")
