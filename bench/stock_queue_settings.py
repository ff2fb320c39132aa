"""Heimdall's settings with django-q2 as its documentation shows it on the ORM broker."""

from heimdall.site.settings import *  # noqa: F403

Q_CLUSTER = {"name": "stock", "orm": "default", "workers": 2, "retry": 120, "timeout": 60}
