"""A file is named by the SHA-256 of its header instead of that of all its bytes; see docs/decisions/012.

The new hash of an old file stands in the file alone. It is left empty, and such a file is known by its digest and its
own checks.
"""

from django.db import migrations, models


def forget(apps, schema_editor):
    apps.get_model("training", "Checkpoint").objects.update(header_sha256="")


class Migration(migrations.Migration):
    dependencies = [("training", "0008_saved_views")]
    operations = [
        migrations.RenameField("checkpoint", "file_sha256", "header_sha256"),
        migrations.AlterField(
            "checkpoint",
            "header_sha256",
            models.CharField(
                blank=True,
                help_text="Names the whole file; empty for files from before it was kept.",
                max_length=64,
            ),
        ),
        migrations.RunPython(forget),
    ]
