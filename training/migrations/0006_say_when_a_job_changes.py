"""PostgreSQL says that a job's row was written, whoever wrote it; see docs/decisions/083. SQLite shows it by itself."""

from django.db import migrations

SAY = """
CREATE FUNCTION heimdall_say_job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('heimdall_jobs', '');
    RETURN NULL;
END $$;
CREATE TRIGGER heimdall_job_changed AFTER INSERT OR UPDATE OR DELETE ON training_trainingjob
    FOR EACH ROW EXECUTE FUNCTION heimdall_say_job_changed();
"""
SAY_NO_MORE = """
DROP TRIGGER heimdall_job_changed ON training_trainingjob;
DROP FUNCTION heimdall_say_job_changed();
"""


def say(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(SAY)


def say_no_more(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(SAY_NO_MORE)


class Migration(migrations.Migration):
    dependencies = [("training", "0005_lists_by_index")]
    operations = [migrations.RunPython(say, say_no_more)]
