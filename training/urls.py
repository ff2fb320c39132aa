"""The addresses of the pages."""

from django.urls import path

from training import views

urlpatterns = [
    path("", views.jobs, name="jobs"),
    path("jobs/new/", views.new, name="job-new"),
    path("jobs/<int:job_id>/", views.job, name="job"),
    path("jobs/<int:job_id>/edit/", views.edit, name="job-edit"),
    path("jobs/<int:job_id>/curve/", views.curve, name="job-curve"),
    path("jobs/<int:job_id>/log/", views.log, name="job-log"),
    path("jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/", views.download, name="checkpoint-download"),
    path("jobs/<int:job_id>/checkpoints/<int:checkpoint_id>/pin/", views.pin, name="checkpoint-pin"),
    path("jobs/<int:job_id>/<slug:verb>/", views.verb, name="job-verb"),
]
