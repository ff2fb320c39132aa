import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("training", "0011_gangs"),
    ]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="rendezvous",
            field=models.CharField(blank=True, help_text="Where the ranks of several hosts meet: an address and a port.", max_length=200),
        ),
        migrations.CreateModel(
            name="GangMember",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slots", models.JSONField(default=list)),
                ("first_rank", models.PositiveSmallIntegerField(default=0, help_text="The rank of its first slot.")),
                ("boot_id", models.CharField(blank=True, max_length=64)),
                ("supervisor_pid", models.PositiveIntegerField(default=0)),
                ("supervisor_started_at", models.FloatField(default=0)),
                ("seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("leaves", models.BooleanField(default=False, help_text="Its host stops: the attempt lands at the next step.")),
                ("lost", models.TextField(blank=True, help_text="Why it cannot go on.")),
                ("error_code", models.CharField(blank=True, help_text="Where its ranks have failed: another try would not help.", max_length=40)),
                ("attempt", models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="members", to="training.attempt")),
                ("job", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="gang_members", to="training.trainingjob")),
                ("node", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="gang_members", to="training.node")),
            ],
            options={"ordering": ["id"]},
        ),
        migrations.AddConstraint(
            model_name="gangmember",
            constraint=models.UniqueConstraint(fields=("job", "node"), name="a_host_takes_part_once"),
        ),
        migrations.AlterField(
            model_name="heldslot",
            name="attempt",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="held_slots", to="training.attempt"),
        ),
        migrations.AddField(
            model_name="heldslot",
            name="member",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name="held_slots", to="training.gangmember"),
        ),
    ]
