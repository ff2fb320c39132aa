"""The addresses of the API. Its page and its description need a login like everything else."""

from django.contrib.auth.decorators import login_required
from django.urls import path, re_path
from drf_spectacular.views import SpectacularSwaggerSplitView

from training.api import (
    about,
    bulk,
    certificates,
    checkpoints,
    code,
    curves,
    datasets,
    external,
    forks,
    history,
    jobs,
    locating,
    nodes,
    notifications,
    recipes,
    saved_views,
    sweeps,
    tokens,
    verbs,
)
from training.api.base import SchemaView, UnknownAddressView

app_name = "api"

JOB = "training/jobs/<int:pk>"
DATASET = "training/datasets/<slug:name>"
SUBSCRIPTION = "training/subscriptions/<int:pk>"
NODE = "training/nodes/<str:name>"
SWEEP = "training/sweeps/<int:pk>"
CHECKPOINT = f"{JOB}/checkpoints/<int:checkpoint>"

urlpatterns = [
    path("", about.IndexView.as_view(), name="index"),
    path("me", about.MeView.as_view(), name="me"),
    path("tokens", tokens.TokenListView.as_view(), name="tokens"),
    path("tokens/<int:pk>", tokens.TokenDetailView.as_view(), name="token"),
    path("training/jobs", jobs.JobListView.as_view(), name="jobs"),
    path("training/jobs/bulk", bulk.BulkView.as_view(), name="bulk"),
    path("training/jobs/export", jobs.ExportView.as_view(), name="export"),
    path("training/jobs/try", jobs.TrySubmissionView.as_view(), name="try"),
    path("training/jobs/external", external.ExternalJobsView.as_view(), name="external"),
    path(JOB, jobs.JobDetailView.as_view(), name="job"),
    path(f"{JOB}/pause", verbs.PauseView.as_view(), name="pause"),
    path(f"{JOB}/resume", verbs.ResumeView.as_view(), name="resume"),
    path(f"{JOB}/restart", verbs.RestartView.as_view(), name="restart"),
    path(f"{JOB}/cancel", verbs.CancelView.as_view(), name="cancel"),
    path(f"{JOB}/discard", verbs.DiscardView.as_view(), name="discard"),
    path(f"{JOB}/curve", curves.CurveView.as_view(), name="curve"),
    path(f"{JOB}/metrics", external.MetricsView.as_view(), name="metrics"),
    path(f"{JOB}/end", external.EndView.as_view(), name="end"),
    path(f"{JOB}/resources", curves.ResourcesView.as_view(), name="resources"),
    path(f"{JOB}/events", history.EventListView.as_view(), name="events"),
    path(f"{JOB}/logs", history.LogListView.as_view(), name="logs"),
    path(f"{JOB}/checkpoints", checkpoints.CheckpointListView.as_view(), name="checkpoints"),
    path(CHECKPOINT, checkpoints.CheckpointDetailView.as_view(), name="checkpoint"),
    path(f"{CHECKPOINT}/download", checkpoints.CheckpointDownloadView.as_view(), name="download"),
    path(f"{JOB}/certificate", certificates.CertificateView.as_view(), name="certificate"),
    path(f"{JOB}/certificate/link", certificates.CertificateLinkView.as_view(), name="certificate-link"),
    path(f"{JOB}/replays", certificates.ReplayListView.as_view(), name="replays"),
    path(f"{JOB}/verify", certificates.VerifyView.as_view(), name="verify"),
    path(f"{JOB}/check", forks.CheckView.as_view(), name="check"),
    path(f"{JOB}/clone", forks.CloneView.as_view(), name="clone"),
    path(f"{JOB}/extend", forks.ExtendView.as_view(), name="extend"),
    path(f"{JOB}/fork", forks.ForkView.as_view(), name="fork"),
    path(f"{JOB}/token", tokens.JobTokenView.as_view(), name="job-token"),
    path(f"{JOB}/locate", locating.LocateView.as_view(), name="locate"),
    path(f"{JOB}/artifact", datasets.ArtifactView.as_view(), name="artifact"),
    path("training/code", code.CodeView.as_view(), name="code"),
    path("training/code/<slug:digest>", code.CodeDetailView.as_view(), name="code-archive"),
    path("training/code/<slug:digest>/download", code.CodeDownloadView.as_view(), name="code-download"),
    path("training/datasets", datasets.DatasetListView.as_view(), name="datasets"),
    path(DATASET, datasets.DatasetDetailView.as_view(), name="dataset"),
    path(f"{DATASET}/samples", datasets.SampleListView.as_view(), name="samples"),
    path(f"{JOB}/watch", notifications.WatchView.as_view(), name="watch"),
    path("training/subscriptions", notifications.SubscriptionListView.as_view(), name="subscriptions"),
    path(SUBSCRIPTION, notifications.SubscriptionDetailView.as_view(), name="subscription"),
    path(f"{SUBSCRIPTION}/secret", notifications.SecretView.as_view(), name="subscription-secret"),
    path(f"{SUBSCRIPTION}/test", notifications.SendTestMessageView.as_view(), name="subscription-test"),
    path(f"{SUBSCRIPTION}/deliveries", notifications.DeliveryListView.as_view(), name="deliveries"),
    path(
        f"{SUBSCRIPTION}/deliveries/<int:delivery>/again", notifications.RedeliverView.as_view(), name="again"
    ),
    path("training/nodes", nodes.NodeListView.as_view(), name="nodes"),
    path(NODE, nodes.NodeDetailView.as_view(), name="node"),
    path(f"{NODE}/drain", nodes.DrainView.as_view(), name="drain"),
    path(f"{NODE}/undrain", nodes.UndrainView.as_view(), name="undrain"),
    path("training/views", saved_views.SavedViewListView.as_view(), name="views"),
    path("training/views/<int:pk>", saved_views.SavedViewDetailView.as_view(), name="view"),
    path("training/sweeps", sweeps.SweepListView.as_view(), name="sweeps"),
    path(SWEEP, sweeps.SweepDetailView.as_view(), name="sweep"),
    path(f"{SWEEP}/report", sweeps.SweepReportView.as_view(), name="sweep-report"),
    path(f"{SWEEP}/importances", sweeps.SweepImportancesView.as_view(), name="sweep-importances"),
    path(f"{SWEEP}/pause", sweeps.PauseSweepView.as_view(), name="sweep-pause"),
    path(f"{SWEEP}/resume", sweeps.ResumeSweepView.as_view(), name="sweep-resume"),
    path(f"{SWEEP}/cancel", sweeps.CancelSweepView.as_view(), name="sweep-cancel"),
    path(f"{SWEEP}/extend", sweeps.ExtendSweepView.as_view(), name="sweep-extend"),
    path("training/recipes", recipes.RecipeListView.as_view(), name="recipes"),
    path("training/recipes/<str:name>", recipes.RecipeDetailView.as_view(), name="recipe"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path(
        "docs/",
        login_required(SpectacularSwaggerSplitView.as_view(url_name="api:schema", template_name="docs.html")),
        name="docs",
    ),
    re_path(r"", UnknownAddressView.as_view()),
]
