from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("training", "0013_certificates"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="trainingjob",
            name="gangs_in_queue",
        ),
        migrations.AddIndex(
            model_name="trainingjob",
            index=models.Index(condition=models.Q(("status", "queued")), fields=["status", "is_gang", "-priority", "queued_at", "id", "pool"], name="gangs_in_queue"),
        ),
    ]
