"""A copy that holds the training up is made by two threads where a core is idle, and by one where none is."""

import os
import threading

import pytest
import torch

from heimdall.engine import copying
from heimdall.engine.copying import LEAST_BYTES, Copier, cut

PATIENCE = 20.0


class Offer:
    """Stands for the machine: a core is idle, or none is."""

    def __init__(self, answer: bool):
        self.answer = answer
        self.asked = 0

    def offer_one_to(self, thread) -> bool:
        self.asked += 1
        return self.answer


@pytest.fixture
def copier():
    found = Copier()
    real, found._idle_cores = found._idle_cores, Offer(True)
    yield found
    found._idle_cores = real
    found.close()


def some_pieces(count=6):
    sources = [torch.full((100,), float(number)) for number in range(count)]
    targets = [torch.zeros(100) for _ in sources]
    return targets, sources, [([target], [source]) for target, source in zip(targets, sources, strict=True)]


def is_copied(targets, sources) -> bool:
    return all(torch.equal(target, source) for target, source in zip(targets, sources, strict=True))


@pytest.mark.parametrize("sizes", [[], [1], [5] * 300, [LEAST_BYTES] * 40, [1, 10**7, 1, 1, 10**7, 3]])
def test_the_pieces_are_all_of_a_list_in_its_order(sizes):
    tensors = [torch.empty(size, dtype=torch.uint8) for size in sizes]
    cuts = cut(tensors)
    assert [tensor.shape for piece in cuts for tensor in tensors[piece]] == [each.shape for each in tensors]
    pieces = [sum(tensor.nbytes for tensor in tensors[piece]) for piece in cuts]
    assert all(size >= LEAST_BYTES for size in pieces[:-1])
    assert len(pieces) <= copying.MOST_PIECES + 1


def test_what_two_threads_copy_is_equal_and_takes_no_gradient(copier):
    sources = [torch.randn(300_000, requires_grad=True) for _ in range(20)]
    targets = [torch.zeros(300_000) for _ in sources]
    with torch.no_grad():
        copier.copy([(targets[piece], sources[piece]) for piece in cut(targets)])
    assert is_copied(targets, sources)
    assert not any(target.requires_grad for target in targets)


def test_a_helper_that_gets_no_core_is_not_waited_for(copier):
    asked, copier._asked = copier._asked, type(copier._asked)()  # nobody listens
    targets, sources, pieces = some_pieces()
    copier.copy(pieces)
    assert is_copied(targets, sources)
    copier._asked = asked


def test_the_copy_ends_after_the_piece_that_the_helper_has_begun(copier, monkeypatch):
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    real = torch._foreach_copy_

    def slow(targets, sources):
        if threading.current_thread() is copier._thread:
            begun.set()
            assert may_end.wait(PATIENCE)
        else:
            assert begun.wait(PATIENCE)  # so that the helper has one
        real(targets, sources)

    monkeypatch.setattr(torch, "_foreach_copy_", slow)
    targets, sources, pieces = some_pieces()

    def ask():
        copier.copy(pieces)
        ended.set()

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(PATIENCE)
    while pieces:
        threading.Event().wait(0.001)
    assert not ended.wait(0.05)
    may_end.set()
    asking.join(PATIENCE)
    assert ended.is_set()
    assert is_copied(targets, sources)


def test_an_error_of_the_helper_is_raised_once(copier, monkeypatch):
    failed = threading.Event()
    real = torch._foreach_copy_

    def fails_beside(targets, sources):
        if threading.current_thread() is copier._thread:
            failed.set()
            raise MemoryError("no room beside")
        assert failed.wait(PATIENCE)
        real(targets, sources)

    monkeypatch.setattr(torch, "_foreach_copy_", fails_beside)
    with pytest.raises(MemoryError, match="no room beside"):
        copier.copy(some_pieces()[2])
    monkeypatch.undo()
    targets, sources, pieces = some_pieces()
    copier.copy(pieces)
    assert is_copied(targets, sources)


@pytest.mark.parametrize(("count", "is_idle", "asks"), [(6, True, True), (6, False, False), (1, True, False)])
def test_help_is_asked_for_where_a_core_is_idle_and_something_can_be_shared(copier, count, is_idle, asks):
    copier._idle_cores = Offer(is_idle)
    asked, copier._asked = copier._asked, type(copier._asked)()
    targets, sources, pieces = some_pieces(count)
    copier.copy(pieces)
    assert copier._asked.qsize() == asks
    assert is_copied(targets, sources)
    copier._asked = asked


@pytest.fixture
def cores():
    found = copying._IdleCores.here()
    if found is None:
        pytest.skip("this process has one core, or this is no Linux")
    yield found
    found.close()


@pytest.mark.parametrize(("running", "is_idle"), [(1, True), (10**6, False)])
def test_the_helper_is_kept_off_the_core_that_asks(copier, cores, monkeypatch, running, is_idle):
    cores._this_core = lambda: min(cores._cores)
    monkeypatch.setattr(cores, "_num_running", lambda: running)
    before = os.sched_getaffinity(copier._thread.native_id)
    assert cores.offer_one_to(copier._thread) == is_idle
    wanted = cores._cores - {min(cores._cores)} if is_idle else before
    assert os.sched_getaffinity(copier._thread.native_id) == wanted
    assert os.sched_getaffinity(0) == cores._cores


def test_the_machine_says_how_many_threads_run(cores):
    assert 1 <= cores._num_running() < 10**5
