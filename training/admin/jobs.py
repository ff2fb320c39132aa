"""Jobs: their verbs for one and for many, their form, and their history below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from unfold import widgets
from unfold.admin import ModelAdmin
from unfold.decorators import display

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training import policy, queries, services
from training.admin.base import local_time
from training.admin.job_history import AttemptInline, CheckpointInline, EventInline
from training.admin.submission import check_exactness, dress, new_form, submission
from training.errors import NotAllowed
from training.lifecycle import Verb
from training.models import TrainingJob
from training.presentation.answers import ANSWER, too_late, words_of
from training.presentation.config_groups import config_groups
from training.presentation.confirmations import question, question_for_many
from training.presentation.form_fields import TagsField
from training.presentation.job_buttons import buttons_of
from training.presentation.program_facts import program_of
from training.presentation.throttles import throttle_verbs
from training.presentation.tracebacks import last_line
from training.queries.code import commit_of
from training.templatetags.heimdall import NOTHING, loss, percent, progress_words, runs, state_word

ASKS_FIRST = {Verb.RESTART, Verb.CANCEL, Verb.DISCARD, Verb.DELETE}
_LABELS = {
    "queued": "info",
    "running": "primary",
    "pausing": "warning",
    "preempted": "warning",
    "cancelling": "warning",
    "completed": "success",
    "failed": "danger",
}
_STYLES = forms.Media(css={"all": ["heimdall/admin.css"]})


def _action(verb: str, label: str, **options: Any) -> Callable:
    """An admin action that does a verb to each selected job."""

    def act(model_admin: JobAdmin, request: HttpRequest, jobs: QuerySet[TrainingJob]) -> HttpResponse | None:
        return model_admin.do_to_many(request, jobs, act.__name__, verb, **options)

    act.__name__ = "_at_".join([str(verb), *options.values()])
    act.short_description = label  # type: ignore[attr-defined]
    return act


@admin.register(TrainingJob)
class JobAdmin(ModelAdmin):
    list_display = (
        "named",
        "state",
        "verbs",
        "progress",
        "train",
        "best",
        "owner",
        "what_it_runs",
        "created",
    )
    list_display_links = ("named",)
    list_filter = (
        "status",
        "job_type",
        ("recipe", admin.AllValuesFieldListFilter),
        ("owner", admin.RelatedOnlyFieldListFilter),
        ("team", admin.RelatedOnlyFieldListFilter),
        "created_at",
    )
    search_fields = ("job_name", "description", "=id")
    search_help_text = "A part of the name or of the notes, or a job's number"
    list_select_related = ("owner", "team", "latest_checkpoint", "code")
    list_per_page = 50
    show_full_result_count = False
    fields = (
        "job_name", "state_and_headline", "verbs", "progress", "failure", "description", "tags", "priority", "pool",
        "what_it_runs", "promise", "evidence", "program_facts", "job_type", "owner", "team", "parent", "losses",
        "settings", "created", "started", "ended",
    )  # fmt: skip
    readonly_fields = (
        "state_and_headline", "verbs", "progress", "failure", "what_it_runs", "promise", "evidence", "program_facts",
        "job_type", "owner", "team", "parent", "losses", "settings", "created", "started", "ended",
    )  # fmt: skip
    inlines = (AttemptInline, CheckpointInline, EventInline)
    actions = (
        _action("pause", "Pause at the end of the epoch", at="epoch"),
        _action("pause", "Pause at the next step", at="step"),
        _action("resume", "Resume"),
        _action("restart", "Restart at step 0"),
        _action("cancel", "Cancel"),
        _action("discard", "Discard paused jobs"),
        _action("delete", "Delete finished jobs"),
        check_exactness,
    )

    @property
    def media(self) -> forms.Media:
        return super().media + _STYLES

    # What is shown.

    @display(description="Job", ordering="job_name")
    def named(self, job: TrainingJob) -> str:
        return format_html('<span class="heimdall-name"><b>{}</b> #{}</span>', job.job_name, job.pk)

    @display(description="Created", ordering="id")
    def created(self, job: TrainingJob) -> str:
        return local_time(job.created_at)

    @display(description="Started")
    def started(self, job: TrainingJob) -> str:
        return local_time(job.started_at)

    @display(description="Ended")
    def ended(self, job: TrainingJob) -> str:
        return local_time(job.completed_at)

    @display(description="Why it failed")
    def failure(self, job: TrainingJob) -> str:
        """Its last line says what happened; the way there is folded."""
        if not job.error_message.strip():
            return NOTHING
        return format_html(
            '<b>{}</b><details class="heimdall-trace"><summary>All of it</summary><pre>{}</pre></details>',
            last_line(job.error_message),
            job.error_message,
        )

    @display(description="State", ordering="status", label=_LABELS)
    def state(self, job: TrainingJob) -> str:
        return state_word(_shown(job))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict | None = None
    ) -> HttpResponse:
        """A job's history is its events: Django's own log would know of edits alone."""
        if self.get_object(request, object_id) is None:
            raise Http404("There is no such job.")
        return redirect(f"{reverse('admin:training_event_changelist')}?job__id__exact={object_id}")

    @display(description="State")
    def state_and_headline(self, job: TrainingJob) -> str:
        word, headline = state_word(_shown(job)), queries.headline(job)
        return format_html("<b>{}</b> {}", word, "" if headline == word else headline)

    @display(description="Progress")
    def progress(self, job: TrainingJob) -> str:
        done = queries.progress_percent(job)
        return format_html(
            '<span class="heimdall-progress"><span>{} &middot; {}</span>'
            '<progress max="100" value="{}" aria-label="Progress of job {}"></progress></span>',
            progress_words(_counts(job)),
            percent(done),
            done,
            job.pk,
        )

    @display(description="Train loss", ordering="train_loss")
    def train(self, job: TrainingJob) -> str:
        return loss(job.train_loss)

    @display(description="Best val loss", ordering="best_val_loss")
    def best(self, job: TrainingJob) -> str:
        return loss(job.best_val_loss)

    @display(description="Losses")
    def losses(self, job: TrainingJob) -> str:
        return (
            f"train {loss(job.train_loss)}, validation {loss(job.val_loss)}, best {loss(job.best_val_loss)}"
        )

    @display(description="What it runs", ordering="recipe")
    def what_it_runs(self, job: TrainingJob) -> str:
        return runs({"program": job.program, "recipe": job.recipe})

    @display(description="A pause is")
    def promise(self, job: TrainingJob) -> str:
        return queries.promise(job)

    @display(description="This training is")
    def evidence(self, job: TrainingJob) -> str:
        """What is known of it, with its certificate."""
        words = queries.evidence_words(job)
        if not queries.has_chain(job):
            return words
        address = reverse("job-certificate", args=[job.pk])
        return format_html(
            '<b>{}</b>: {} <a href="{}">Certificate</a>', queries.evidence(job), words, address
        )

    @display(description="Program")
    def program_facts(self, job: TrainingJob) -> str:
        """Its command, its code and how it is run. Of its secrets nobody has more than the names."""
        shown = program_of(job)
        if shown is None or job.code is None:
            return "\u2013"
        rows = [("Command", shown["command"]), *shown["facts"]]
        rows += list(job.program["variables"].items())
        rows += [(name, "secret") for name in job.program["secrets"]]
        brought = commit_of(job)
        rows += [("Code", job.code.digest), ("Commit", (brought and brought.commit) or "none")]
        facts = format_html_join("", "<div><dt>{}</dt><dd>{}</dd></div>", rows)
        address = reverse("job-code", args=[job.pk])
        return format_html(
            '<dl class="heimdall-settings">{}</dl><a href="{}">Download the code</a>', facts, address
        )

    @display(description="Settings")
    def settings(self, job: TrainingJob) -> str:
        fields = [field for _, group in config_groups(job) for field in group]
        rows = [(field["title"], field["value"]) for field in fields]
        shown = format_html_join("", "<div><dt>{}</dt><dd>{}</dd></div>", rows)
        return format_html('<dl class="heimdall-settings">{}</dl>', shown)

    @display(description="Actions")
    def verbs(self, job: TrainingJob) -> str:
        """A button for each verb that the user has here: links to its confirmation."""
        offered = getattr(job, "offered_verbs", [])
        shown = buttons_of(_shown(job) | {"verbs": offered})
        links = (
            (
                reverse("admin:training_trainingjob_verb", args=[job.pk, button.verb]),
                button.verb,
                button.label,
            )
            for button in (*shown["main"], *shown["menu"])
            if not button.disabled
        )
        return format_html(
            '<span class="heimdall-verbs">{}</span>',
            format_html_join("", '<a href="{}" data-verb="{}">{}</a>', links),
        )

    def view_on_site(self, job: TrainingJob) -> str:
        return reverse("job", args=[job.pk])

    # Who may.

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingJob]:
        return policy.visible_jobs(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        return self.has_module_permission(request) and (
            obj is None or policy.may(request.user, policy.SEE, obj)
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        """Without a job: whether the list offers actions at all. Each verb asks the policy for each job."""
        return self.has_module_permission(request) and (
            obj is None or policy.may(request.user, policy.EDIT, obj)
        )

    def has_delete_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        return False  # deleting is a verb

    # What is done.

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "tags":
            return TagsField(widget=widgets.UnfoldAdminTextInputWidget())
        return super().formfield_for_dbfield(db_field, request, **options)

    def get_urls(self) -> list:
        one = path(
            "<int:job_id>/do/<slug:verb>/",
            self.admin_site.admin_view(self.verb_view),
            name="training_trainingjob_verb",
        )
        return [one, *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        for job in found.result_list:
            job.offered_verbs = queries.available_verbs(job, request.user)
        return found

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> TrainingJob | None:
        job = super().get_object(request, object_id, from_field)
        if job is not None:
            job.offered_verbs = queries.available_verbs(job, request.user)
        return job

    def save_model(self, request: HttpRequest, job: TrainingJob, form: forms.ModelForm, change: bool) -> None:
        changed = {name: form.cleaned_data[name] for name in form.changed_data}
        services.edit(job, by=request.user, **changed)

    @method_decorator(throttle_verbs)
    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> Any:
        return super().changelist_view(request, extra_context)

    @method_decorator(throttle_verbs)
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **options: Any
    ) -> Any:
        try:
            return super().changeform_view(request, object_id, *args, **options)
        except InvalidInput as error:
            messages.error(request, str(error))
            return redirect(request.path)

    @method_decorator(throttle_verbs)
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        """Submit a job: the form of the recipe that the address names."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        recipes, is_program = registry.usable(), "program" in request.GET
        wanted = request.GET.get("recipe") or (recipes[0].name if recipes and not is_program else "")
        recipe = next((found for found in recipes if found.name == wanted), None)
        if recipe is None and not is_program:
            raise Http404("There is no such recipe.")
        form = new_form(request, recipe)
        if form.is_valid():
            try:
                result = services.submit(by=request.user, **submission(form, request.user))
                messages.success(request, result.message)
                return redirect("admin:training_trainingjob_changelist")
            except InvalidInput as error:
                form.refuse(error)
        dress(form)
        context = {"title": "Submit a job", "form": form, "recipes": recipes, "recipe": recipe}
        context["may_run_programs"] = settings.PROGRAMS and policy.may_run_programs(request.user)
        return self._page(request, "admin/training/submit.html", context, 400 if form.errors else 200)

    @method_decorator(throttle_verbs)
    def verb_view(self, request: HttpRequest, job_id: int, verb: str) -> HttpResponse:
        """One job's verb: GET asks, POST does it."""
        job = queries.with_relations(policy.visible_jobs(request.user)).filter(pk=job_id).first()
        if job is None or verb not in services.VERBS:
            raise Http404("There is no such job or verb.")
        try:
            policy.require(request.user, verb, job)
        except NotAllowed as error:
            messages.error(request, str(error))
            return _answer(redirect("admin:training_trainingjob_changelist"), ["not_allowed"])
        if request.method != "POST":
            shown = queries.job_dict(job, request.user)
            context = {"title": question(shown, verb).title, "ask": question(shown, verb)}
            context["refused"] = too_late(shown, verb)
            return self._page(request, "admin/training/ask.html", context)
        answers = self._do(request, [job], verb, **_options(request, verb))
        return _answer(redirect("admin:training_trainingjob_changelist"), answers)

    def do_to_many(
        self, request: HttpRequest, jobs: QuerySet[TrainingJob], action: str, verb: str, **options: str
    ) -> HttpResponse:
        """An action's body. What cannot be taken back is asked first."""
        chosen = list(queries.with_relations(jobs)[: services.MOST_AT_ONCE + 1])
        if len(chosen) > services.MOST_AT_ONCE:
            messages.error(request, f"At most {services.MOST_AT_ONCE} jobs at once. Nothing was done.")
            return HttpResponseRedirect(request.get_full_path())
        if Verb(verb) in ASKS_FIRST and "confirmed" not in request.POST:
            ask = question_for_many(verb, len(chosen))
            context = {"title": ask.title, "ask": ask, "jobs": chosen, "action": action}
            return self._page(request, "admin/training/ask.html", context)
        answers = self._do(request, chosen, verb, **options)
        return _answer(HttpResponseRedirect(request.get_full_path()), answers)

    def _do(self, request: HttpRequest, jobs: Iterable[TrainingJob], verb: str, **options: str) -> list[str]:
        """Do the verb to each job, and tell how many were done and why others were not."""
        answers, done, not_done = [], [], []
        for job in jobs:
            asked = services.ask(job, verb, by=request.user, **options)
            word, sentence = words_of(asked)
            answers.append(word)
            (done if asked.result else not_done).append(f"Job {job.pk}, {job.job_name}: {sentence}")
        if done:
            messages.success(request, _summary(f"{verb.capitalize()}: {len(done)} done.", done))
        if not_done:
            messages.warning(request, _summary(f"{verb.capitalize()}: {len(not_done)} not done.", not_done))
        return answers

    def _page(
        self, request: HttpRequest, template: str, context: dict, status: int = 200
    ) -> TemplateResponse:
        site = self.admin_site.each_context(request)
        return TemplateResponse(
            request, template, site | {"media": self.media, "opts": self.opts} | context, status=status
        )


def _shown(job: TrainingJob) -> dict[str, Any]:
    return {"status": job.status, "stop": {"kind": job.stop, "at": job.stop_at} if job.stop else None}


def _counts(job: TrainingJob) -> dict[str, int | str | None]:
    names = ("job_type", "current_epoch", "total_epochs", "current_step", "total_steps")
    return {name: getattr(job, name) for name in names}


def _options(request: HttpRequest, verb: str) -> dict[str, str]:
    return {"at": request.POST.get("at") or "epoch"} if verb == Verb.PAUSE else {}


def _summary(first: str, sentences: list[str]) -> str:
    """The count, then each job's sentence; a long list is cut."""
    shown = [*sentences[:10], *([f"... and {len(sentences) - 10} more."] if len(sentences) > 10 else [])]
    return " ".join([first, *shown])


def _answer(response: HttpResponse, answers: list[str]) -> HttpResponse:
    """The same header as on the pages, where all jobs gave the same answer."""
    if len(set(answers)) == 1:
        response[ANSWER] = answers[0]
    return response
