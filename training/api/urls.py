"""The addresses of the API. Its page and its description need a login like everything else."""

from django.contrib.auth.decorators import login_required
from django.urls import path, re_path
from drf_spectacular.views import SpectacularSwaggerSplitView

from training.api import bulk, curves, datasets, forks, nodes, notifications, saved_views, serializers, views
from training.api.doors import Described
from training.api.views import verb_view

app_name = "api"

JOB = "training/jobs/<int:pk>"
DATASET = "training/store/datasets/<slug:name>"
SUBSCRIPTION = "training/subscriptions/<int:pk>"
NODE = "training/nodes/<str:name>"
CHECKPOINT = f"{JOB}/checkpoints/<int:checkpoint>"

urlpatterns = [
    path("training/jobs", views.Jobs.as_view(), name="jobs"),
    path("training/jobs/bulk", bulk.Bulk.as_view(), name="bulk"),
    path(JOB, views.Job.as_view(), name="job"),
    path(f"{JOB}/pause", verb_view("pause", "Pause a job", serializers.PauseOptions), name="pause"),
    path(
        f"{JOB}/resume",
        verb_view("resume", "Resume a job, or withdraw its pause", serializers.ResumeOptions),
        name="resume",
    ),
    path(f"{JOB}/restart", verb_view("restart", "Begin again at step 0"), name="restart"),
    path(f"{JOB}/cancel", verb_view("cancel", "Cancel a job"), name="cancel"),
    path(f"{JOB}/discard", verb_view("discard", "Give a paused job up"), name="discard"),
    path(f"{JOB}/curve", curves.Curve.as_view(), name="curve"),
    path(f"{JOB}/metrics", views.Metrics.as_view(), name="metrics"),
    path(f"{JOB}/events", views.Events.as_view(), name="events"),
    path(f"{JOB}/logs", views.Logs.as_view(), name="logs"),
    path(f"{JOB}/checkpoints", views.Checkpoints.as_view(), name="checkpoints"),
    path(CHECKPOINT, views.OneCheckpoint.as_view(), name="checkpoint"),
    path(f"{CHECKPOINT}/download", views.Download.as_view(), name="download"),
    path(f"{JOB}/clone", forks.CloneJob.as_view(), name="clone"),
    path(f"{JOB}/extend", forks.ExtendJob.as_view(), name="extend"),
    path(f"{JOB}/fork", forks.ForkJob.as_view(), name="fork"),
    path(f"{JOB}/artifact", datasets.Artifact.as_view(), name="artifact"),
    path("training/store/datasets", datasets.Datasets.as_view(), name="datasets"),
    path(DATASET, datasets.OneDataset.as_view(), name="dataset"),
    path(f"{DATASET}/samples", datasets.Samples.as_view(), name="samples"),
    path(f"{JOB}/watch", notifications.Watch.as_view(), name="watch"),
    path("training/subscriptions", notifications.Subscriptions.as_view(), name="subscriptions"),
    path(SUBSCRIPTION, notifications.OneSubscription.as_view(), name="subscription"),
    path(f"{SUBSCRIPTION}/secret", notifications.Secret.as_view(), name="subscription-secret"),
    path(f"{SUBSCRIPTION}/test", notifications.Test.as_view(), name="subscription-test"),
    path(f"{SUBSCRIPTION}/deliveries", notifications.Deliveries.as_view(), name="deliveries"),
    path(f"{SUBSCRIPTION}/deliveries/<int:delivery>/again", notifications.Again.as_view(), name="again"),
    path("training/nodes", nodes.Nodes.as_view(), name="nodes"),
    path(NODE, nodes.OneNode.as_view(), name="node"),
    path(f"{NODE}/drain", nodes.Drain.as_view(), name="drain"),
    path(f"{NODE}/undrain", nodes.Undrain.as_view(), name="undrain"),
    path("training/views", saved_views.SavedViews.as_view(), name="views"),
    path("training/views/<int:pk>", saved_views.OneSavedView.as_view(), name="view"),
    path("heimdall/recipes", views.Recipes.as_view(), name="recipes"),
    path("heimdall/recipes/<str:name>", views.Recipe.as_view(), name="recipe"),
    path("schema/", Described.as_view(), name="schema"),
    path(
        "docs/",
        login_required(SpectacularSwaggerSplitView.as_view(url_name="api:schema", template_name="docs.html")),
        name="docs",
    ),
    re_path(r"", views.Nowhere.as_view()),
]
