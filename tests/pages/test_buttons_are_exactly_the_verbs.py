import pytest

from tests.conftest import ALL_STATES
from tests.pages.conftest import buttons, html, words
from training import queries

pytestmark = pytest.mark.django_db


def expected(job, user) -> dict[str, bool]:
    verbs = dict.fromkeys(queries.available_verbs(job, user), True)
    return verbs | ({"delete": False} if "discard" in verbs else {})


@pytest.mark.parametrize(("status", "stop"), ALL_STATES)
def test_list_and_job_page_offer_what_the_rules_allow(browse, make_job, alice, bob, viewer, status, stop):
    job = make_job(status=status, stop=stop, with_checkpoint=True, step=4, epoch=1)
    for user in (alice, bob, viewer):
        client = browse(user)
        for address in ("/", f"/jobs/{job.pk}/"):
            assert buttons(html(client.get(address))) == expected(job, user), (address, user)


@pytest.mark.parametrize(("status", "stop"), [state for state in ALL_STATES if state != ("paused", "")])
def test_a_synthetic_data_job_never_has_a_pause_button(browse, make_job, alice, status, stop):
    job = make_job(status=status, stop=stop, job_type="synthetic_data")
    for address in ("/", f"/jobs/{job.pk}/"):
        assert "pause" not in buttons(html(browse(alice).get(address)))


def test_a_paused_job_shows_resume_a_disabled_delete_and_no_cancel(browse, make_job, alice):
    job = make_job(status="paused", with_checkpoint=True, step=4, epoch=1)
    text = html(browse(alice).get(f"/jobs/{job.pk}/"))
    assert buttons(text) == {"resume": True, "delete": False, "discard": True}
    menu = text[text.index('class="menu-items"') :]
    assert 'data-verb="discard"' in menu
    assert 'data-verb="resume"' not in menu
    assert "state-paused" in text
    assert "icons.svg#pause" in text


def test_a_wish_is_told_as_a_wish(browse, make_job, alice):
    job = make_job(status="running", stop="pause", stop_at="epoch", step=4, epoch=1)
    for address in ("/", f"/jobs/{job.pk}/"):
        text = html(browse(alice).get(address))
        assert "pausing at the end of epoch 2" in words(text)
        assert "state-pausing" in text
        assert "state-paused" not in text
    assert "Keep training" in words(text)
