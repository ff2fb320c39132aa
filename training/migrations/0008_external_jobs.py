from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0007_who_brought_code'),
    ]

    operations = [
        migrations.AddField(
            model_name='trainingjob',
            name='heard_at',
            field=models.DateTimeField(blank=True, help_text='When an external job reported last; empty for all others.', null=True),
        ),
        migrations.AddField(
            model_name='attempt',
            name='log_characters',
            field=models.PositiveBigIntegerField(default=0, help_text='Of an external job: so much of its log was taken, or was left out.'),
        ),
        migrations.AlterField(
            model_name='trainingjob',
            name='job_type',
            field=models.CharField(choices=[('training', 'training'), ('synthetic_data', 'synthetic data'), ('external', 'external')], default='training', max_length=20),
        ),
        migrations.AlterField(
            model_name='deletion',
            name='job_type',
            field=models.CharField(choices=[('training', 'training'), ('synthetic_data', 'synthetic data'), ('external', 'external')], max_length=20),
        ),
        migrations.RemoveConstraint(
            model_name='trainingjob',
            name='running_if_and_only_if_leased',
        ),
        migrations.RemoveConstraint(
            model_name='trainingjob',
            name='either_a_recipe_or_a_program',
        ),
        migrations.AddConstraint(
            model_name='trainingjob',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', 'running'), models.Q(('job_type', 'external'), _negated=True), ('lease_expires_at__isnull', False)), models.Q(models.Q(models.Q(('status', 'running'), _negated=True), ('job_type', 'external'), _connector='OR'), ('lease_expires_at__isnull', True)), _connector='OR'), name='leased_if_and_only_if_running_here'),
        ),
        migrations.AddConstraint(
            model_name='trainingjob',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('code__isnull', True), ('job_type', 'external'), ('recipe', '')), models.Q(models.Q(('job_type', 'external'), _negated=True), ('code__isnull', False), ('recipe', '')), models.Q(models.Q(('job_type', 'external'), _negated=True), models.Q(('recipe', ''), _negated=True), ('code__isnull', True)), _connector='OR'), name='a_recipe_or_a_program_or_external'),
        ),
        migrations.AddConstraint(
            model_name='trainingjob',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('job_type', 'external'), _negated=True), models.Q(('status__in', ['running', 'completed', 'failed', 'cancelled']), ('stop__in', ['', 'cancel'])), _connector='OR'), name='external_only_runs_or_is_over'),
        ),
    ]
