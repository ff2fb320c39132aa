"""The addresses of the pages."""

from django.urls import path

from training import dataset_views, views

urlpatterns = [
    path("", views.jobs, name="jobs"),
    path("jobs/new/", views.new, name="job-new"),
    path("jobs/<int:job_id>/", views.job, name="job"),
    path("jobs/<int:job_id>/edit/", views.edit, name="job-edit"),
    path("jobs/<int:job_id>/curve/", views.curve, name="job-curve"),
    path("jobs/<int:job_id>/artifact/", views.artifact, name="job-artifact"),
    path("jobs/<int:job_id>/log/", views.log, name="job-log"),
    path("jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/", views.download, name="checkpoint-download"),
    path("jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/bundle/", views.bundle, name="checkpoint-bundle"),
    path("jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/pin/", views.pin, name="checkpoint-pin"),
    path("jobs/<int:job_id>/<slug:verb>/", views.verb, name="job-verb"),
    path("datasets/", dataset_views.datasets, name="datasets"),
    path("datasets/<slug:name>/", dataset_views.dataset, name="dataset"),
    path("datasets/<slug:name>/summary/", dataset_views.summary, name="dataset-summary"),
    path("datasets/<slug:name>/extend/", dataset_views.extend, name="dataset-extend"),
    path("datasets/<slug:name>/delete/", dataset_views.delete, name="dataset-delete"),
]
