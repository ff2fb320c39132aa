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

        post_migrate.connect(full_text.prepare, sender=self, dispatch_uid="training.queries.full_text")
        login_changes.connect_signals()
