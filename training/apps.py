from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Training"

    def ready(self) -> None:
        from training import checks  # noqa: F401  (registers itself)
