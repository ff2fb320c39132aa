import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


def full_is_admin(apps, schema_editor):
    apps.get_model('training', 'ApiToken').objects.filter(scope='full').update(scope='admin')


def admin_is_full(apps, schema_editor):
    """What is narrower than everything and wider than reading has no scope of earlier days: it may read."""
    tokens = apps.get_model('training', 'ApiToken').objects
    tokens.filter(scope='report').delete()
    tokens.filter(scope='admin').update(scope='full')
    tokens.filter(scope__in=['act', 'submit']).update(scope='read')


class Migration(migrations.Migration):

    dependencies = [('training', '0008_external_jobs')]

    operations = [
        migrations.RemoveConstraint('apitoken', 'a_token_has_a_known_scope'),
        migrations.AddField(
            'apitoken', 'job', models.ForeignKey(blank=True, help_text='The only job that it may report of.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='tokens', to='training.trainingjob'),
        ),
        migrations.AddField(
            'apitoken', 'attempt', models.PositiveIntegerField(blank=True, help_text="Refused from this attempt's end on.", null=True),
        ),
        migrations.AlterField(
            'apitoken', 'scope', models.CharField(choices=[('read', 'read only'), ('act', 'read; pause, resume and cancel'), ('submit', 'the same, and make and edit jobs'), ('admin', 'everything its person may do'), ('report', 'report of its job')], default='admin', max_length=10),
        ),
        migrations.RemoveConstraint('apitoken', 'one_token_of_a_name_per_person'),
        migrations.AddConstraint(
            'apitoken', models.UniqueConstraint(condition=Q(('job__isnull', True)), fields=('user', 'name'), name='one_token_of_a_name_per_person'),
        ),
        migrations.RunPython(full_is_admin, admin_is_full, elidable=True),
        migrations.AddConstraint(
            'apitoken', models.CheckConstraint(condition=Q(scope__in=['read', 'act', 'submit', 'admin', 'report']), name='a_token_has_a_known_scope'),
        ),
        migrations.AddConstraint(
            'apitoken', models.CheckConstraint(condition=Q(scope='report', job__isnull=False, attempt__isnull=False) | (~Q(scope='report') & Q(job__isnull=True, attempt__isnull=True)), name='a_token_reports_of_one_attempt'),
        ),
    ]
