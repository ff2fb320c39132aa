"""`/v1/` says which server answers, `/v1/me` who asks, and a slash too many does no harm."""

import heimdall
from tests.support.tokens import bearer


def test_the_index_leads_to_what_there_is(api):
    found = api.get("/v1/").json()
    assert (found["name"], found["version"], found["api"]) == ("heimdall", heimdall.__version__, "v1")
    assert api.get(found["schema"]).status_code == 200
    assert api.get(f"{found['training']}/jobs").status_code == 200


def test_a_token_learns_whose_it_is_and_what_it_may(api, client, alice):
    assert api.get("/v1/me").json()["rights"] == ["read", "report", "act", "submit", "admin"]
    mine = client.get("/v1/me", headers=bearer(alice, "read")).json()
    teams = sorted(alice.groups.values_list("name", flat=True))
    assert mine == {"username": "alice", "is_administrator": False, "teams": teams, "rights": ["read"]}
    assert client.get("/v1/me").status_code == 401


def test_a_slash_too_many_leads_on_with_method_query_and_body(api):
    answer = api.get("/v1/training/jobs/?status=queued")
    assert (answer.status_code, answer["Location"]) == (308, "/v1/training/jobs?status=queued")
    body = {"job_name": "a", "recipe": "language_model"}
    made = api.post("/v1/training/jobs/", body, format="json", follow=True)
    assert (made.status_code, made.json()["job_name"]) == (201, "a")


def test_the_description_names_its_server(api):
    [server] = api.get("/v1/schema/").json()["servers"]
    assert server == {"url": "http://testserver", "description": f"Heimdall {heimdall.__version__}"}
