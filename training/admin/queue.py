"""The messages of django-q2. Alone here its models are named."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django_q.models import Failure, OrmQ, Schedule, Success

from training.admin.base import History

for _model in (Success, Failure, Schedule, OrmQ):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


@admin.register(OrmQ)
class QueueAdmin(History):
    """Messages that nobody has taken yet. Results and schedules of django-q2 are pickles: nobody reads them here."""

    list_display = ("pk", "key", "payload", "lock")
    fields = ("key", "payload", "lock")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser
