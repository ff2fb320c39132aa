import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):

    dependencies = [
        ("training", "0010_columns_of_configs_and_metrics"),
    ]

    operations = [
        migrations.AddField(
            model_name="trainingjob",
            name="fewest_devices",
            field=models.PositiveSmallIntegerField(default=1, help_text="The fewest slots of one host that it can train on."),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="most_devices",
            field=models.PositiveSmallIntegerField(default=1, help_text="The most slots of one host that it makes use of."),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="num_hosts",
            field=models.PositiveSmallIntegerField(default=1, help_text="Hosts that it trains on together."),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="is_gang",
            field=models.BooleanField(default=False, help_text="It needs several slots at once, and may have to wait for them."),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="ranks",
            field=models.PositiveSmallIntegerField(default=1, help_text="Of its newest attempt: one a device."),
        ),
        migrations.AddField(
            model_name="trainingjob",
            name="rank_devices",
            field=models.JSONField(blank=True, default=list, help_text="Of its newest attempt, where it has several ranks: where each computes."),
        ),
        migrations.AddField(
            model_name="attempt",
            name="ranks",
            field=models.PositiveSmallIntegerField(default=1, help_text="Processes that train together."),
        ),
        migrations.AddField(
            model_name="attempt",
            name="rank_devices",
            field=models.JSONField(blank=True, default=list, help_text="Of several ranks: the node, the slot and the device of each."),
        ),
        migrations.AddField(
            model_name="attempt",
            name="fills",
            field=models.BooleanField(default=False, help_text="It took a slot that a job of several devices waits for, and makes room when that can start."),
        ),
        migrations.CreateModel(
            name="HeldSlot",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slot", models.PositiveSmallIntegerField()),
                ("attempt", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="held_slots", to="training.attempt")),
                ("node", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="held_slots", to="training.node")),
            ],
            options={"ordering": ["node_id", "slot"]},
        ),
        migrations.AddConstraint(
            model_name="heldslot",
            constraint=models.UniqueConstraint(fields=("node", "slot"), name="each_slot_is_held_once"),
        ),
        migrations.AddConstraint(
            model_name="trainingjob",
            constraint=models.CheckConstraint(
                condition=Q(("fewest_devices__gte", 1), ("most_devices__gte", F("fewest_devices")), ("num_hosts__gte", 1)) & (Q(("fewest_devices", 1), ("is_gang", False), ("num_hosts", 1)) | (Q(("is_gang", True)) & (Q(("fewest_devices__gt", 1)) | Q(("num_hosts__gt", 1))))),
                name="a_gang_needs_several_slots",
            ),
        ),
        migrations.AddIndex(
            model_name="trainingjob",
            index=models.Index(condition=models.Q(("is_gang", True), ("status", "queued")), fields=["is_gang", "-priority", "queued_at", "id", "pool"], name="gangs_in_queue"),
        ),
    ]
