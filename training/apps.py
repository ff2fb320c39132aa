from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TrainingAppConfig(AppConfig):
    name = "training"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Training"

    def ready(self) -> None:
        from training import checks  # noqa: F401  (registers itself)
        from training.live import login_changes
        from training.queries import texts

        post_migrate.connect(texts.prepare, sender=self, dispatch_uid="training.queries.texts")
        login_changes.connect_signals()
