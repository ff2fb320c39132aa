import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models



class Migration(migrations.Migration):

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('training', '0012_jobs_of_several_hosts'),
    ]

    operations = [
        migrations.AddField(
            model_name='attempt',
            name='environment',
            field=models.JSONField(blank=True, default=dict, help_text='What it trains on: device, build of torch, threads, data, code.'),
        ),
        migrations.AddField(
            model_name='trainingjob',
            name='replayed',
            field=models.JSONField(blank=True, default=dict, editable=False, help_text='What replays have shown of it, counted, and the generation that they hold for.'),
        ),
        migrations.CreateModel(
            name='CertificateKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key_id', models.CharField(max_length=64, unique=True)),
                ('public', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('retired_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='PublicCertificate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('token', models.CharField(max_length=64, unique=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('job', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='public_certificate', to='training.trainingjob')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='ChainLink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveBigIntegerField()),
                ('generation', models.PositiveIntegerField()),
                ('attempt', models.PositiveIntegerField()),
                ('step', models.PositiveBigIntegerField()),
                ('epoch', models.PositiveIntegerField()),
                ('samples', models.PositiveBigIntegerField(blank=True, null=True)),
                ('digest', models.CharField(max_length=64)),
                ('header_sha256', models.CharField(blank=True, help_text='Empty: hashed, and not stored.', max_length=64)),
                ('came_from', models.CharField(blank=True, help_text='Digest of the state before it.', max_length=64)),
                ('came_from_step', models.PositiveBigIntegerField(default=0)),
                ('code', models.CharField(blank=True, max_length=64)),
                ('data', models.CharField(blank=True, max_length=64)),
                ('environment', models.CharField(blank=True, max_length=64)),
                ('before', models.CharField(blank=True, help_text='Seal of the link that was written before it.', max_length=64)),
                ('seal', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('checkpoint', models.OneToOneField(blank=True, help_text='While its file is kept.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='link', to='training.checkpoint')),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chain', to='training.trainingjob')),
            ],
            options={
                'ordering': ['job_id', 'number'],
                'constraints': [models.UniqueConstraint(fields=('job', 'number'), name='link_number_once_per_job')],
            },
        ),
        migrations.CreateModel(
            name='Replay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('generation', models.PositiveIntegerField()),
                ('from_step', models.PositiveBigIntegerField(default=0)),
                ('from_digest', models.CharField(blank=True, max_length=64)),
                ('to_step', models.PositiveBigIntegerField()),
                ('points', models.JSONField(default=list, help_text='The links on the way: number, step, recorded digest, found one.')),
                ('state', models.CharField(choices=[('waiting', 'waiting'), ('running', 'running'), ('equal', 'equal'), ('differs', 'differs'), ('failed', 'failed')], default='waiting', max_length=10)),
                ('reason', models.TextField(blank=True)),
                ('first_step', models.PositiveBigIntegerField(blank=True, help_text='The first step that differs.', null=True)),
                ('first_value', models.CharField(blank=True, max_length=200)),
                ('first_tensor', models.CharField(blank=True, max_length=500)),
                ('steps_compared', models.PositiveBigIntegerField(default=0, help_text='Steps whose values were compared.')),
                ('environment', models.JSONField(blank=True, default=dict)),
                ('seconds', models.FloatField(blank=True, null=True)),
                ('tries', models.PositiveIntegerField(default=0)),
                ('lease_expires_at', models.DateTimeField(blank=True, null=True)),
                ('is_automatic', models.BooleanField(default=False)),
                ('seal', models.CharField(blank=True, help_text='Over what was found, with the secret key: a result that nobody found has none.', max_length=64)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='replays', to='training.trainingjob')),
                ('start', models.ForeignKey(blank=True, help_text='Null: step 0.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='training.checkpoint')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['job_id', 'id'],
                'indexes': [models.Index(condition=models.Q(('state__in', ['waiting', 'running'])), fields=['is_automatic', 'id'], name='replays_to_be_done')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('lease_expires_at__isnull', False), ('state', 'running')), models.Q(models.Q(('state', 'running'), _negated=True), ('lease_expires_at__isnull', True)), _connector='OR'), name='replay_runs_if_and_only_if_leased')],
            },
        ),
    ]
