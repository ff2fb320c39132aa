"""PostgreSQL notifies its listeners that a job's row was written, whoever wrote it; see docs/decisions/083.

SQLite shows it by itself.
"""

from django.db import migrations

NOTIFY = """
CREATE FUNCTION heimdall_say_job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('heimdall_jobs', '');
    RETURN NULL;
END $$;
CREATE TRIGGER heimdall_job_changed AFTER INSERT OR UPDATE OR DELETE ON training_trainingjob
    FOR EACH ROW EXECUTE FUNCTION heimdall_say_job_changed();
"""
NOTIFY_NO_MORE = """
DROP TRIGGER heimdall_job_changed ON training_trainingjob;
DROP FUNCTION heimdall_say_job_changed();
"""


def notify(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(NOTIFY)


def notify_no_more(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(NOTIFY_NO_MORE)


class Migration(migrations.Migration):
    dependencies = [("training", "0001_initial")]
    operations = [migrations.RunPython(notify, notify_no_more)]
