"""The pages of datasets: what there is, what is in one, making more of it, and taking it away."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_http_methods

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training import policy, queries, services
from training.errors import TransitionRefused
from training.models import Dataset, TrainingJob
from training.presentation.config_groups import config_groups
from training.presentation.form_fields import Shown
from training.views.page import PAGE_SIZE, page

MAX_SHARDS = 200
MAX_JOBS = 50


@page
@require_GET
def datasets(request: HttpRequest) -> HttpResponse:
    number = _page_number(request)
    rows = _related(services.visible_datasets(request.user)).order_by("-id")
    first = (number - 1) * PAGE_SIZE
    found = list(rows[first : first + PAGE_SIZE + 1])
    context = {
        "section": "datasets",
        "datasets": queries.dataset_dicts(found[:PAGE_SIZE]),
        "makers": [info for info in registry.usable() if info.job_type == "synthetic_data"],
        "previous": number - 1,
        "next": number + 1 if len(found) > PAGE_SIZE else 0,
    }
    return render(request, "datasets.html", context)


@page
@require_GET
def dataset(request: HttpRequest, name: str) -> HttpResponse:
    seen = _visible(request, name)
    shown = queries.dataset_dicts([seen])[0]
    reader = registry.reader_of(seen.recipe)
    context = {
        "section": "datasets",
        "dataset": shown,
        "summary": queries.dataset_summary(seen),
        "refused": _refused(seen),
        "shards": seen.shards.order_by("id")[:MAX_SHARDS],
        "num_shards": seen.shards.count(),
        "jobs": _jobs(request, seen),
        "config": config_groups(TrainingJob(recipe=seen.recipe, config=seen.config)),
        "may_change": policy.may_change_dataset(request.user, seen),
        "may_extend": "first_sample" in seen.config,
        "train_url": _train_url(reader, shown) if reader else "",
    }
    return render(request, "dataset.html", context)


@page
@require_GET
def summary(request: HttpRequest, name: str) -> JsonResponse:
    """What the map and the histograms are drawn from."""
    return JsonResponse(queries.dataset_summary(_visible(request, name)))


class ExtendDatasetForm(forms.Form):
    samples = forms.IntegerField(
        label="How many more",
        min_value=1,
        max_value=1_000_000_000,
        help_text="They are exactly those that would have come next. The samples there are stay as they are.",
    )

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields]


@page
@require_http_methods(["GET", "POST"])
def extend(request: HttpRequest, name: str) -> HttpResponse:
    seen = _visible(request, name)
    services.require_dataset(seen, by=request.user, verb="extend")
    form = ExtendDatasetForm(request.POST or None, initial={"samples": seen.samples or None})
    if form.is_valid():
        try:
            result = services.extend_dataset(seen, by=request.user, **form.cleaned_data)
            messages.success(request, result.message)
            return redirect("job", result.job.pk)
        except InvalidInput as error:
            form.add_error("samples", error.sentences)
        except TransitionRefused as error:
            messages.warning(request, str(error))
            return redirect("dataset", name)
    context = {"section": "datasets", "dataset": seen, "form": form}
    return render(request, "dataset_extend.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, name: str) -> HttpResponse:
    seen = _visible(request, name)
    services.require_dataset(seen, by=request.user, verb="delete")
    if request.method == "POST":
        try:
            services.delete_dataset(seen, by=request.user)
        except TransitionRefused as error:
            messages.warning(request, str(error))
            return redirect("dataset", name)
        messages.success(request, f"Dataset {name} and its files are deleted.")
        return redirect("datasets")
    return render(request, "dataset_delete.html", {"section": "datasets", "dataset": seen})


def _related(rows: Any) -> Any:
    return rows.select_related("owner", "team")


def _visible(request: HttpRequest, name: str) -> Dataset:
    found = _related(services.visible_datasets(request.user)).filter(name=name).first()
    if found is None:
        raise Http404(f"There is no dataset {name}.")
    return found


def _jobs(request: HttpRequest, seen: Dataset) -> list[dict[str, Any]]:
    """Those who made it and those who read it, as far as the user may see them."""
    visible = policy.visible_jobs(request.user).filter(dataset=seen).order_by("-id")[:MAX_JOBS]
    return queries.dicts(queries.with_relations(visible), request.user)


def _refused(seen: Dataset) -> list[dict[str, Any]]:
    """Refused tries by reason, with their share of all tries."""
    tries = seen.samples + sum(seen.refused.values())
    return [
        {"reason": reason.replace("_", " "), "count": count, "percent": 100.0 * count / tries}
        for reason, count in seen.refused.items()
        if tries
    ]


def _train_url(reader: str, shown: dict[str, Any]) -> str:
    """The form for a new training, with the dataset and its size filled in."""
    samples = shown["samples"] or shown["wanted_samples"]
    filled = {"recipe": reader, "config.dataset": shown["name"], "config.samples": samples}
    return f"{reverse('job-new')}?{urlencode(filled)}"


def _page_number(request: HttpRequest) -> int:
    text = request.GET.get("page", "")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 9 else 1
