"""The hosts: what they are, how busy they are, and draining them and taking them out."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from training import policy, services
from training.errors import TransitionRefused
from training.lifecycle import Answer
from training.models import Node
from training.presentation.answers import ANSWER
from training.queries.nodes import node_dicts, node_events
from training.views.page import page, wants_json


@dataclass(frozen=True)
class NodeQuestion:
    """What is asked before a node's verb, in words."""

    title: str
    text: str
    button: str
    css: str = "main"


_QUESTIONS = {
    "drain": NodeQuestion(
        "Drain node {}?",
        "Its jobs stop at their next step and go back to the queue with a checkpoint: other nodes go on with them. "
        "It takes no more jobs until it is undrained.",
        "Drain",
    ),
    "undrain": NodeQuestion("Undrain node {}?", "It takes jobs again, at once.", "Undrain"),
    "remove": NodeQuestion(
        "Remove node {}?",
        "It is silent. Its history and what it computed stay; a worker of this name brings it back.",
        "Take out",
        "danger solid",
    ),
}


@page
@require_GET
def nodes(request: HttpRequest) -> HttpResponse:
    shown = node_dicts(Node.objects.all(), request.user)
    context = {
        "section": "nodes",
        "nodes": shown,
        "num_slots": sum(len(node["slots"]) for node in shown if node["state"] != "silent"),
        "num_free": sum(node["free_slots"] for node in shown),
    }
    return render(request, "nodes.html", context)


@page
@require_GET
def node(request: HttpRequest, name: str) -> HttpResponse:
    seen = _find(name)
    context = {
        "section": "nodes",
        "node": node_dicts([seen], request.user)[0],
        "events": node_events(seen.name),
    }
    return render(request, "node.html", context)


@page
@require_http_methods(["GET", "POST"])
def verb(request: HttpRequest, name: str, verb: str) -> HttpResponse:
    """GET asks for a confirmation, POST does it."""
    if verb not in services.NODE_VERBS:
        raise Http404("There is no such verb.")
    seen = _find(name)
    policy.require_steering_nodes(request.user)
    if request.method == "GET":
        context = {"section": "nodes", "node": seen, "verb": verb, "ask": _QUESTIONS[verb]}
        context["title"] = _QUESTIONS[verb].title.format(seen.name)
        return render(request, "node_ask.html", context)
    try:
        word, sentence = services.NODE_VERBS[verb](seen, by=request.user)
    except TransitionRefused as error:
        return _answer(request, "refused", str(error), 409)
    return _answer(request, str(word), sentence, 202 if word is Answer.NOTED else 200)


def _find(name: str) -> Node:
    found = Node.objects.filter(name=name).first()
    if found is None:
        raise Http404(f"There is no node {name}.")
    return found


def _answer(request: HttpRequest, word: str, sentence: str, status: int) -> HttpResponse:
    response: HttpResponse
    if wants_json(request):
        response = JsonResponse({"answer": word, "message": sentence, "gone": False}, status=status)
    else:
        level = messages.WARNING if word == "refused" else messages.SUCCESS
        messages.add_message(request, level, sentence)
        response = redirect("nodes")
    response[ANSWER] = word
    return response
