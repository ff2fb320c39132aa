import django.db.models.deletion
from django.db import migrations, models

ROWS = """
    SELECT job_id, step, key, CASE WHEN {number} THEN {value} END AS value
    FROM (SELECT job_id, step, "values" AS measured FROM training_metric
          UNION ALL SELECT job_id, step, epoch_values FROM training_metric WHERE epoch_values IS NOT NULL) AS rows,
         {each}(measured) AS one
    WHERE {known} AND length(key) <= 200
"""
SQLITE = dict(number='type <> \'null\'', value='value', each='json_each', known="type IN ('integer', 'real', 'null')")
POSTGRESQL = dict(
    number="jsonb_typeof(value) = 'number'", value='(value #>> \'{}\')::double precision', each='jsonb_each',
    known="jsonb_typeof(value) IN ('number', 'null')",
)
FILL = """
INSERT INTO training_metricvalue (job_id, name, newest, lowest, highest)
SELECT extremes.job_id, extremes.key, newest.value, lowest, highest
FROM (SELECT job_id, key, max(step) AS step, min(value) AS lowest, max(value) AS highest
      FROM ({rows}) AS every GROUP BY job_id, key) AS extremes
JOIN ({rows}) AS newest
  ON newest.job_id = extremes.job_id AND newest.key = extremes.key AND newest.step = extremes.step
WHERE TRUE
ON CONFLICT (job_id, name) DO NOTHING
"""


def fill(apps, schema_editor):
    """From the configs and the rows of metrics that are there."""
    from training.models.values import scalars

    jobs, values = apps.get_model('training', 'TrainingJob'), apps.get_model('training', 'ConfigValue')
    batch = []
    for pk, config in jobs.objects.order_by('pk').values_list('pk', 'config').iterator(2000):
        batch += [
            values(job_id=pk, path=path, number=number, text=text)
            for path, (number, text) in scalars(config).items()
        ]
        if len(batch) >= 5000:
            values.objects.bulk_create(batch, batch_size=500)
            batch = []
    values.objects.bulk_create(batch, batch_size=500)
    rows = ROWS.format(**(SQLITE if schema_editor.connection.vendor == 'sqlite' else POSTGRESQL))
    schema_editor.execute(FILL.format(rows=rows))


class Migration(migrations.Migration):

    dependencies = [('training', '0009_scopes_of_tokens')]

    operations = [
        migrations.CreateModel(
            name='ConfigValue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('path', models.CharField(help_text='Names of nested fields, with dots between them.', max_length=200)),
                ('number', models.FloatField(null=True)),
                ('text', models.CharField(max_length=200, null=True)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='config_values', to='training.trainingjob')),
            ],
            options={
                'ordering': ['job_id', 'path'],
                'indexes': [models.Index(fields=['path', 'number', 'job'], name='config_values_by_number'), models.Index(fields=['path', 'text', 'job'], name='config_values_by_text')],
                'constraints': [models.UniqueConstraint(fields=('job', 'path'), name='one_value_a_job_and_path')],
            },
        ),
        migrations.CreateModel(
            name='MetricValue',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200)),
                ('newest', models.FloatField(null=True)),
                ('lowest', models.FloatField(null=True)),
                ('highest', models.FloatField(null=True)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='metric_values', to='training.trainingjob')),
            ],
            options={
                'ordering': ['job_id', 'name'],
                'indexes': [models.Index(fields=['name', 'newest', 'job'], name='metric_values_by_newest'), models.Index(fields=['name', 'lowest', 'job'], name='metric_values_by_lowest'), models.Index(fields=['name', 'highest', 'job'], name='metric_values_by_highest')],
                'constraints': [models.UniqueConstraint(fields=('job', 'name'), name='one_value_a_job_and_metric')],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop, elidable=True),
    ]
