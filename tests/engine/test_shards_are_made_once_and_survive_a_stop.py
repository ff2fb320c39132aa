"""Synthetic data: finished shards are the progress, whatever happens between them."""

import hashlib
from threading import Thread

import pytest

from heimdall import GenerationConfig, GenerationRecipe, failpoints
from heimdall.engine.control import StopRequests
from heimdall.engine.generation import MOST_WAITING, Generation
from heimdall.engine.recipe_job import perform
from heimdall.failpoints import FailpointReached
from heimdall.trainer.protocol import Exit, FileStored, StopTraining, TrainerSpec


class Shards(GenerationRecipe):
    def __init__(self, config, scratch):
        super().__init__(config, scratch)
        self.made: list[int] = []

    def generate(self, shard, folder):
        self.made.append(shard)
        path = folder / f"shard-{shard}.txt"
        path.write_text(f"{self.config.seed} {shard}\n")
        return path, {"samples": 10}


@pytest.fixture
def recipe(tmp_path):
    return Shards(GenerationConfig(samples=35, samples_per_shard=10), tmp_path)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.configure("")


def make(recipe, folder, finished=(), *, send=lambda message: None, requests=None) -> bool:
    return Generation(recipe, folder, finished=finished).make_missing(
        send=send, requests=requests or StopRequests()
    )


def test_all_shards_are_made_and_told(recipe, tmp_path):
    told = []
    assert make(recipe, tmp_path, send=told.append)
    assert [message.done for message in told] == [1, 2, 3, 4]
    assert {message.total for message in told} == {4}
    entry = told[2].entry
    content = (tmp_path / entry["path"]).read_bytes()
    assert content == b"0 2\n"
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert (entry["shard"], entry["size"], entry["samples"]) == (2, len(content), 10)


def test_a_stop_comes_between_two_shards_and_the_rest_is_made_later(recipe, tmp_path):
    requests, recorded = StopRequests(), []

    def record(message):
        recorded.append(message.entry["shard"])
        if message.done == 2:
            requests.receive(StopTraining("epoch"))

    assert not make(recipe, tmp_path, send=record, requests=requests)
    assert make(recipe, tmp_path, recorded)
    assert recipe.made == [0, 1, 2, 3]


def test_a_shard_that_was_not_recorded_is_made_again(recipe, tmp_path):
    recorded = []
    failpoints.configure("shard_made=raise:3")
    with pytest.raises(FailpointReached):
        make(recipe, tmp_path, send=lambda message: recorded.append(message.entry["shard"]))
    assert make(recipe, tmp_path, recorded)
    assert recipe.made == [0, 1, 2, 2, 3]


def test_no_more_shards_are_made_than_wait_to_be_stored(tmp_path):
    """Each is stored when the next ones have been made: never more than so many lie in the folder."""
    requests, lying, most = StopRequests(), [], []
    recipe = Shards(GenerationConfig(samples=300, samples_per_shard=10), tmp_path)
    generation = Generation(recipe, tmp_path, finished=())
    requests.on_stored = generation.stored

    def store(message):
        lying.append(message.path)
        most.append(len(lying))
        if len(lying) == MOST_WAITING:
            Thread(target=lambda: requests.receive(FileStored(lying.pop(0)))).start()

    assert generation.make_missing(send=store, requests=requests)
    assert recipe.made == list(range(30))
    assert max(most) == MOST_WAITING


def test_a_stop_is_honoured_while_the_store_is_away(recipe, tmp_path):
    requests = StopRequests()
    recipe.config = GenerationConfig(samples=300, samples_per_shard=10)

    def stop_at_the_limit(message):
        if message.done == MOST_WAITING:
            Thread(target=lambda: requests.receive(StopTraining("step"))).start()

    assert not make(recipe, tmp_path, send=stop_at_the_limit, requests=requests)
    assert len(recipe.made) == MOST_WAITING


def test_the_trainer_makes_them_and_waits_for_its_exit(tmp_path):
    told, requests = [], StopRequests()

    def answer(message):
        told.append(message)
        if message.kind == "finished":
            requests.receive(Exit())

    config = {"samples": 20, "samples_per_shard": 10, "seed": 0, "shard_seconds": 0.0}
    package = "tests.support.recipes.shards"
    spec = TrainerSpec(package, config, str(tmp_path), scratch=str(tmp_path), threads=1)
    perform(spec, send=answer, requests=requests)
    assert [message.kind for message in told] == ["started", "shard", "shard", "finished"]
    assert (told[0].total_epochs, told[0].total_steps) == (0, 2)
    assert told[-1].step == 2
