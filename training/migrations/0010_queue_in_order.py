from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0009_header_sha256'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='trainingjob',
            name='jobs_in_queue',
        ),
        migrations.AddIndex(
            model_name='trainingjob',
            index=models.Index(
                fields=['status', '-priority', 'queued_at', 'id', 'pool'],
                condition=models.Q(('status', 'queued')),
                name='jobs_in_queue',
            ),
        ),
    ]
