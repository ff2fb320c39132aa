"""Who brought which code, which groups are no teams, and the environments that nodes have."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


def note_who_brought_code(apps, schema_editor):
    code_archives, brought = (apps.get_model("training", name) for name in ("CodeArchive", "BroughtCode"))
    using = schema_editor.connection.alias
    for code in code_archives.objects.using(using).defer("names").iterator():
        brought.objects.using(using).create(
            code=code, owner_id=code.owner_id, commit=code.commit, is_dirty=code.is_dirty, created_at=code.created_at
        )


def mark_the_programmers(apps, schema_editor):
    """The group that the hook after an earlier migration made, unless it is a team by now."""
    using = schema_editor.connection.alias
    jobs = apps.get_model("training", "TrainingJob").objects.using(using)
    group = (
        apps.get_model("auth", "Group")
        .objects.using(using)
        .filter(name="programmers", permissions__codename="run_programs")
        .first()
    )
    if group is not None and not jobs.filter(team=group).exists():
        apps.get_model("training", "RightsGroup").objects.using(using).create(group=group)


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('training', '0006_exactness_checks'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='node',
            name='environments',
            field=models.JSONField(blank=True, default=list, help_text='Names of the Pythons that programs may run in here, beside its own.'),
        ),
        migrations.CreateModel(
            name='BroughtCode',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('commit', models.CharField(blank=True, help_text='Where git stood when they packed it.', max_length=64)),
                ('is_dirty', models.BooleanField(default=False, help_text='Whether something differed from that commit.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('code', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='brought', to='training.codearchive')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='brought_code', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('code', 'owner'), name='code_is_noted_once_a_person')],
            },
        ),
        migrations.CreateModel(
            name='RightsGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('group', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='rights_group', to='auth.group')),
            ],
        ),
        migrations.RunPython(note_who_brought_code, migrations.RunPython.noop),
        migrations.RunPython(mark_the_programmers, migrations.RunPython.noop),
        migrations.RemoveField(model_name='codearchive', name='commit'),
        migrations.RemoveField(model_name='codearchive', name='is_dirty'),
        migrations.AlterField(
            model_name='codearchive',
            name='owner',
            field=models.ForeignKey(help_text='Who brought it first: its bytes count for them.', on_delete=django.db.models.deletion.PROTECT, related_name='code_archives', to=settings.AUTH_USER_MODEL),
        ),
    ]
