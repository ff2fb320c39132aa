"""The addresses of the pages."""

from django.urls import path

from training.views import (
    activity,
    checkpoints,
    datasets,
    downloads,
    job,
    jobs,
    many,
    monitoring,
    nodes,
    notifications,
    queue,
    saved,
    sparks,
    submit,
    verbs,
)

urlpatterns = [
    path("", jobs.jobs, name="jobs"),
    path("jobs/curves/", sparks.curves, name="jobs-curves"),
    path("jobs/download/", downloads.jobs, name="jobs-download"),
    path("jobs/many/", many.many, name="jobs-many"),
    path("jobs/new/", submit.new, name="job-new"),
    path("jobs/<int:job_id>/", job.job, name="job"),
    path("jobs/<int:job_id>/edit/", submit.edit, name="job-edit"),
    path("jobs/<int:job_id>/artifact/", job.artifact, name="job-artifact"),
    path("jobs/<int:job_id>/log/", job.log, name="job-log"),
    path(
        "jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/", checkpoints.download, name="checkpoint-download"
    ),
    path(
        "jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/bundle/",
        checkpoints.bundle,
        name="checkpoint-bundle",
    ),
    path("jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/pin/", checkpoints.pin, name="checkpoint-pin"),
    path("jobs/<int:job_id>/watch/", notifications.watch, name="job-watch"),
    path("jobs/<int:job_id>/<slug:verb>/", verbs.verb, name="job-verb"),
    path("readyz", monitoring.readyz, name="readyz"),
    path("metrics", monitoring.metrics, name="metrics"),
    path("queue/", queue.queue, name="queue"),
    path("nodes/", nodes.nodes, name="nodes"),
    path("nodes/<str:name>/", nodes.node, name="node"),
    path("nodes/<str:name>/<slug:verb>/", nodes.verb, name="node-verb"),
    path("views/", saved.save, name="view-save"),
    path("views/<int:view_id>/delete/", saved.delete, name="view-delete"),
    path("activity/", activity.activity, name="activity"),
    path("datasets/", datasets.datasets, name="datasets"),
    path("datasets/<slug:name>/", datasets.dataset, name="dataset"),
    path("datasets/<slug:name>/summary/", datasets.summary, name="dataset-summary"),
    path("datasets/<slug:name>/extend/", datasets.extend, name="dataset-extend"),
    path("datasets/<slug:name>/delete/", datasets.delete, name="dataset-delete"),
    path("settings/notifications/", notifications.overview, name="notifications"),
    path("settings/notifications/watched/", notifications.watched, name="watched"),
    path("settings/notifications/new/", notifications.new, name="subscription-new"),
    path("settings/notifications/<int:pk>/", notifications.one, name="subscription"),
    path("settings/notifications/<int:pk>/<slug:act>/", notifications.act, name="subscription-act"),
    path(
        "settings/notifications/<int:pk>/deliveries/<int:delivery>/again/",
        notifications.again,
        name="delivery-again",
    ),
]
