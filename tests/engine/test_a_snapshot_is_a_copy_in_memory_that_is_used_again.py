"""The training goes on while a snapshot is written: it must hold the state as it was."""

import threading
from collections import Counter, OrderedDict

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from heimdall import codec
from heimdall.engine import buffer as buffers
from heimdall.engine.buffer import Buffer
from heimdall.engine.copying import copy_all
from heimdall.engine.snapshot import BUFFERS, Announcer, Stager, Ticket
from tests.engine.sameness import difference


class Thing:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


def a_state():
    weight = torch.randn(3, 4)
    return {
        "weight": weight,
        "tied": weight,
        "view": weight.t(),
        "empty": torch.empty(0),
        "also empty": torch.empty(0),
        "number": torch.tensor(3.0),
        "nested": OrderedDict(a=[1, (2.5, None)], b={3: "three"}),
        "array": np.arange(5),
        "counter": Counter("abca"),
    }


def test_a_copy_is_equal_and_shares_no_memory():
    state = a_state()
    copied = Buffer(copy_all).copy(state)
    assert (
        difference(copied | {"view": copied["view"].clone()}, state | {"view": state["view"].clone()}) == ""
    )
    state["weight"].zero_()
    state["array"][:] = 0
    state["nested"]["a"].append(7)
    state["counter"]["a"] = 0
    assert copied["weight"].any()
    assert copied["array"].any()
    assert len(copied["nested"]["a"]) == 2
    assert copied["counter"]["a"] == 2


def test_shared_tensors_stay_shared():
    copied = Buffer(copy_all).copy(a_state())
    assert copied["weight"] is copied["tied"]


def test_the_memory_is_used_again():
    buffer = Buffer(copy_all)
    first = buffer.copy(a_state())["weight"].data_ptr()
    assert buffer.copy(a_state())["weight"].data_ptr() == first


def test_a_tensor_of_another_shape_gets_another_place():
    buffer = Buffer(copy_all)
    buffer.copy({"x": torch.zeros(3)})
    assert buffer.copy({"x": torch.ones(5)})["x"].tolist() == [1.0] * 5
    assert buffer.copy({"x": torch.ones(2, dtype=torch.int64)})["x"].dtype == torch.int64


def the_pool() -> list[torch.Tensor]:
    """Tensors that lie in, beside and over each other, read in several ways."""
    weight, wave = torch.arange(12.0).reshape(3, 4), torch.ones(2, dtype=torch.complex64)
    views = [weight.view(12), weight[0], weight[1], weight.t(), weight[:, :3], weight.view(torch.int32)]
    bits = [wave, wave.conj(), wave.conj().imag, wave.imag, torch.view_as_real(wave)]
    return [weight, *views, *bits, torch.empty(0), torch.empty(0, 3), torch.nn.Parameter(torch.ones(2))]


@settings(max_examples=200, deadline=None)
@given(states=st.lists(st.lists(st.integers(0, 14), max_size=6), min_size=2, max_size=5), again=st.booleans())
def test_a_buffer_that_has_seen_other_states_copies_like_a_new_one(states, again):
    """Equal values, and the same tensors shared, whatever came, went, moved or changed its shape in between."""
    pool, used = the_pool(), Buffer(copy_all)
    for number, state in enumerate([each for each in states for _ in range(1 + again)]):
        pool[0].add_(1)
        pool[8].mul_(1j)
        pool[14].data = torch.full((1 + number % 3,), float(number))
        picked = {"tensors": [pool[index] for index in state], "plain": [number, (None, "x")]}
        copied, wanted = used.copy(picked), Buffer(copy_all).copy(picked)
        assert difference(copied, wanted) == ""
        assert difference(copied["tensors"], [tensor.detach() for tensor in picked["tensors"]]) == ""
        assert same_as(copied["tensors"]) == same_as(wanted["tensors"])


def same_as(tensors) -> list[int]:
    """For each the place of the first that is the same tensor."""
    return [next(place for place, other in enumerate(tensors) if other is each) for each in tensors]


def test_a_state_of_the_same_tensors_is_not_walked_anew(monkeypatch):
    """Model and optimizer: their dicts are new each time, and the tensors in them are not."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    buffer = Buffer(copy_all)

    def step():
        model(torch.randn(4, 3)).sum().backward()
        optimizer.step()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "seen": [1, 2]}
        copied = buffer.copy(state)
        assert difference(copied, state) == ""
        assert copied["seen"] is not state["seen"]

    step()
    monkeypatch.setattr(buffers, "_Walk", None)
    step()


def test_a_tensor_that_becomes_sparse_is_refused_by_its_place():
    buffer = Buffer(copy_all)
    buffer.copy({"table": torch.ones(3)})
    with pytest.raises(TypeError, match="table is a sparse tensor"):
        buffer.copy({"table": torch.ones(3).to_sparse()})
    assert buffer.copy({"table": torch.ones(3)})["table"].tolist() == [1.0] * 3


def test_what_is_written_is_the_state_at_the_snapshot(tmp_path):
    written = threading.Event()
    stager = Stager(tmp_path, finished=lambda ticket: written.set())
    state = {"x": torch.ones(1000)}
    ticket = snapshot(stager, state)
    state["x"].zero_()
    stager.write(ticket)
    assert written.wait(20)
    loaded, about = codec.load(ticket.path)
    assert torch.equal(loaded["thing"]["x"], torch.ones(1000))
    assert about == {"step": 7, "came_from": {"digest": "", "step": 0}, "samples": None}
    stager.close()


def test_there_is_room_for_as_many_snapshots_as_buffers(tmp_path):
    stager = Stager(tmp_path, finished=lambda ticket: None)
    tickets = []
    for _ in range(BUFFERS):
        assert stager.has_room
        tickets.append(snapshot(stager, {"x": torch.ones(1)}))
    assert not stager.has_room
    stager.release(tickets[0])
    assert stager.has_room
    stager.close()


def test_a_failure_is_in_the_ticket(tmp_path):
    failed = threading.Event()
    stager = Stager(tmp_path / "nowhere", finished=lambda ticket: failed.set())
    ticket = snapshot(stager, {"x": torch.ones(1)})
    stager.write(ticket)
    assert failed.wait(20)
    assert isinstance(ticket.error, FileNotFoundError)
    stager.close()


def test_a_state_that_cannot_be_written_is_no_full_disk(tmp_path):
    failed = threading.Event()
    stager = Stager(tmp_path, finished=lambda ticket: failed.set())
    ticket = snapshot(stager, {"x": object()})
    stager.write(ticket)
    assert failed.wait(20)
    assert not isinstance(ticket.error, OSError)
    assert list(tmp_path.iterdir()) == []
    stager.close()


def snapshot(stager: Stager, state) -> Ticket:
    return stager.snapshot(
        {"thing": Thing(state)}, kinds=["periodic"], step=7, epoch=1, val_loss=None, about={"step": 7}
    )


@pytest.fixture
def told():
    return []


def ticket_of(folder, number: int) -> Ticket:
    path = folder / str(number)
    path.write_text("x")
    saved = codec.Saved(str(path), f"{number:064}", 1, "0" * 64)
    return Ticket(["best"], number, number, None, {}, str(path), saved=saved)


def test_only_the_newest_best_one_waits_beyond_the_limit(tmp_path, told):
    announcer = Announcer(told.append)
    tickets = [ticket_of(tmp_path, number) for number in range(12)]
    for ticket in tickets:
        announcer.announce(ticket)
    assert [message.step for message in told if message.kind == "staged"] == list(range(8))
    # The file that gave its place is gone, and its link of the chain is told all the same: the next one names it.
    assert [message.step for message in told if message.kind == "hashed"] == [8, 9, 10]
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [*range(8), 11]
    announcer.stored(tickets[0].path)
    announcer.stored(tickets[1].path)
    assert [message.step for message in told] == list(range(12))
    assert told[-1].kind == "staged"
    assert announcer.has_room
