from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TrainingAppConfig(AppConfig):
    name = "training"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Training"

    def ready(self) -> None:
        from training import checks  # noqa: F401  (registers itself)
        from training.live import login_changes
        from training.queries import full_text

        post_migrate.connect(_make_programmers, sender=self, dispatch_uid="training.apps.make_programmers")
        post_migrate.connect(full_text.prepare, sender=self, dispatch_uid="training.queries.full_text")
        login_changes.connect_signals()


def _make_programmers(sender: Any, using: str, **_: Any) -> None:
    """The group whose members may run programs. One that is there already stays as an administrator left it."""
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Group, Permission
    from django.db import connections

    from training import policy

    create_permissions(
        sender, verbosity=0, using=using
    )  # the receiver that makes them may come after this one
    group, is_new = Group.objects.using(using).get_or_create(name=policy.PROGRAMMERS)
    if is_new:
        app, _, codename = policy.PROGRAM_PERMISSION.partition(".")
        group.permissions.add(
            Permission.objects.using(using).get(content_type__app_label=app, codename=codename)
        )
        # Absent where the database was migrated back to a state before it.
        marks = sender.get_model("RightsGroup")
        if marks._meta.db_table in connections[using].introspection.table_names():
            marks.objects.using(using).create(group=group)
