"""What drives a trainer by a recipe: our own loop over its epochs, or the making of its shards."""

import importlib
import json
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from heimdall.engine import environment, rank_parts
from heimdall.engine.assemble import Training, assemble
from heimdall.engine.control import StopRequests
from heimdall.engine.data import LoaderWorkerSetup
from heimdall.engine.errors import Refused, about_one_sample, code_of, is_about_one_sample, sentence_of
from heimdall.engine.generation import Generation
from heimdall.engine.logical import LogicalGenerators
from heimdall.engine.loop import ClosedEpoch, Outcome
from heimdall.engine.other_job import WEIGHTS, begin_with
from heimdall.engine.parts import GENERATORS
from heimdall.engine.rank_session import RankSession
from heimdall.engine.ranks import Place, Ranks, choose_device_of
from heimdall.engine.restore import restore
from heimdall.engine.session import CheckpointSettings, Send, Session
from heimdall.recipes.base import GenerationRecipe, Part, TrainingRecipe
from heimdall.recipes.demand import ELASTIC, device_demand
from heimdall.trainer.channel import Channel
from heimdall.trainer.exit_codes import CRASHED
from heimdall.trainer.protocol import EpochDone, Failed, Finished, Started, Stopped, TrainerSpec, num_bytes

MOST_ARTIFACT_BYTES = 64 * 1024
FAILED = 1


def run(channel: Channel) -> int:
    """Do what the spec says, and return the exit code. A failure is told; a crash is only seen in the code.

    What a recipe raises to end the process (SystemExit, KeyboardInterrupt) is a failure of it like any other.
    """
    requests = StopRequests()
    channel.listen(requests.receive)
    try:
        perform(channel.spec, send=channel.send, requests=requests, place=Place.of(channel))
    except BaseException as error:
        # torch's handler raises for each loader worker that ends by a signal; one time is enough.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = code_of(error)
        traceback.print_exc(file=sys.stderr)
        if code is None:
            return CRASHED
        channel.send(Failed(code, sentence_of(error, code, channel.spec.config), traceback.format_exc()))
        return FAILED
    return 0


def perform(spec: TrainerSpec, *, send: Send, requests: StopRequests, place: Place | None = None) -> None:
    """place: which of several ranks this process is."""
    recipe, recipe_digest = load_recipe(spec)
    if isinstance(recipe, GenerationRecipe):
        _generate(recipe, recipe_digest, spec, send=send, requests=requests)
        return
    job = RecipeJob(spec, send=send, requests=requests, place=place)
    job.start(recipe, recipe_digest)
    job.train()


def load_recipe(spec: TrainerSpec) -> tuple[TrainingRecipe | GenerationRecipe, str]:
    """The recipe with its config, and the digest of its source."""
    try:
        package = importlib.import_module(spec.package)
        config_class = importlib.import_module(f"{spec.package}.config").Config
        recipe_class = importlib.import_module(f"{spec.package}.recipe").Recipe
    except ModuleNotFoundError as error:
        raise Refused("unknown_recipe", f"The recipe {spec.package} is not here: {error}.") from error
    config = config_class.model_validate_json(json.dumps(spec.config))
    return recipe_class(config, Path(spec.scratch)), environment.digest_of_source(package)


class RecipeJob:
    """A training by a recipe under a supervisor. It is the loop's watcher, and what the session sees trained."""

    def __init__(
        self, spec: TrainerSpec, *, send: Send, requests: StopRequests, place: Place | None = None
    ) -> None:
        self._spec = spec
        self._device = environment.choose_device(spec.device, spec.pinned)
        self._ranks: Ranks | None = None
        if place is None:
            self.session = Session(spec, send=send, requests=requests)
        else:
            self._device = choose_device_of(place.rank, self._device)
            self._ranks = Ranks.of_recipe(spec, place, device=self._device)
            self.session = RankSession(spec, send=send, requests=requests, ranks=self._ranks)

    def start(self, recipe: TrainingRecipe, recipe_digest: str) -> None:
        """Build everything, see whether the data is the same, restore, and say what was found."""
        spec, config = self._spec, recipe.config
        self._config, self._recipe_class = config, type(recipe)
        device, ranks = self._device, self._ranks
        environment.set_determinism(config.deterministic)
        threads = environment.set_threads(spec.threads, processes=device_demand(vars(config)).most)
        self._training = assemble(recipe, device=device, worker_setup=LoaderWorkerSetup(), ranks=ranks)
        found = environment.describe(
            device,
            threads=threads,
            precision=config.precision,
            deterministic=config.deterministic,
            fingerprint=self._training.fingerprint,
            recipe_digest=recipe_digest,
            compiled=environment.is_compiled(self._training.loop.model),
        )
        found |= {} if ranks is None else ranks.described(device)
        if config.devices == ELASTIC:
            found["logical_ranks"] = config.logical_ranks
        environment.check_data(found, spec.pinned)
        self._restore()
        self.session.start(
            self,
            self._started(found),
            settings=CheckpointSettings(config.checkpoint_every_minutes, config.try_resume),
            load_again=None if config.strategy == "fsdp" else self._load_again,
        )

    def train(self) -> None:
        """Train until the end, or until the supervisor lets the process go."""
        try:
            while not self.session.is_exiting:
                outcome = self._training.loop.train(epochs=self._config.epochs, watcher=self)
                if outcome is not Outcome.STOPPED:
                    self.session.finish(outcome.value)
                    return
                if not self.session.stop():
                    return
        except BaseException:
            with suppress(Exception):  # the reason of the failure counts, not that they cannot be read
                self.session.send_last_rows()
            raise

    # What the session asks.

    @property
    def parts(self) -> dict[str, Part]:
        return self._training.parts

    @property
    def place(self) -> dict[str, int]:
        progress = self._training.loop.progress
        return {"step": progress.steps_completed, "epoch": progress.epochs_completed}

    @property
    def samples(self) -> int | None:
        loop = self._training.loop
        return loop.data.samples_until(loop.position)

    def take_rows(self) -> list[dict[str, Any]]:
        return self._training.loop.totals.take_rows()

    # What the loop asks and tells.

    def poll(self) -> str:
        return self.session.requested

    def poll_at_boundary(self) -> str:
        return self.session.requested_of_all()

    def phase(self, name: str) -> None:
        self.session.phase(name)

    def step_finished(self) -> None:
        self.session.step_finished()

    def epoch_closed(self, epoch: ClosedEpoch, *, outcome: Outcome | None) -> None:
        best = self._training.loop.best
        message = EpochDone(
            **self.place,
            values=epoch.values,
            best_epoch=best.epoch,
            best_val_loss=best.loss if self._training.loop.data.has_validation else None,
            is_best=epoch.is_best,
            artifact=_shown(epoch),
        )
        every = self._config.checkpoint_every_epochs
        kinds = ["periodic"] if every and epoch.epoch % every == 0 else []
        if epoch.is_best and self._config.keep_best:
            kinds.append("best")
        self.session.epoch_finished(message, kinds, goes_on=outcome is None)

    # The beginning.

    def _restore(self) -> None:
        taken_over = self._spec.carry
        self.session.restore(
            self,
            load=self._begin_with if taken_over else None,
            is_new_count=taken_over == WEIGHTS,
            own=self._of_this_rank,
        )

    def _of_this_rank(self, loaded: dict[str, Any]) -> dict[str, Any]:
        """What this process loads of a checkpoint of several."""
        rank, count = (0, 1) if self._ranks is None else (self._ranks.number, self._ranks.count)
        generators, seed = self._training.parts[GENERATORS], self._config.seed
        step = loaded["progress"]["steps_completed"] if "progress" in loaded else 0
        if isinstance(generators, LogicalGenerators):
            self._refuse_other_count(loaded, self._config.logical_ranks)
            return rank_parts.of_logical_ranks(loaded, generators, seed=seed, step=step)
        self._refuse_other_count(loaded, count)
        own = rank_parts.of_rank(
            loaded,
            rank,
            fresh=lambda: rank_parts.fresh_generators(generators, seed, rank, step),  # type: ignore[arg-type]
        )
        return rank_parts.own_rows(self._training.parts, own)

    def _refuse_other_count(self, loaded: dict[str, Any], count: int) -> None:
        made_on = rank_parts.num_ranks(loaded)
        if made_on != count and not self._spec.carry and self._config.other_device_count == "refuse":
            raise Refused("does_not_fit", rank_parts.OTHER_COUNT.format(made_on=made_on, count=count))

    def _begin_with(self, loaded: dict[str, Any], about: dict[str, Any]) -> None:
        begin_with(
            self._training,
            loaded,
            what=self._spec.carry,
            asked=self._spec.config,
            before=about.get("config") or {},
        )

    def _load_again(self, state: Any) -> None:
        """Build everything a second time and load the state into it, as the next attempt would."""
        recipe = self._recipe_class(self._config, Path(self._spec.scratch))
        second = assemble(recipe)
        try:
            restore(second.parts, state)
        except Refused as error:
            sentence = f"This training could not be resumed, which was tried after its first step. {error}"
            raise Refused("cannot_resume", sentence) from error
        _refuse_a_last_batch_of_one(recipe, second)

    def _started(self, found: dict[str, Any]) -> Started:
        plan = self._training.plan
        why = environment.why_approximate(found, self._spec.pinned)
        return Started(
            **self.place,
            steps_per_epoch=plan.steps_per_epoch,
            total_steps=plan.total_steps,
            total_epochs=plan.epochs,
            parameters=self._training.parameters,
            learning_rate=self._training.learning_rate,
            environment=found,
            approximate=[*why, *self._training.modules.why_approximate()],
            ranks=self._ranks.members(self._device) if self._ranks is not None else [],
        )


def _refuse_a_last_batch_of_one(recipe: TrainingRecipe, training: Training) -> None:
    """Batch normalization cannot train on one sample, and the last batch of an epoch may have no more."""
    data = training.loop.data
    if data.fewest_samples != 1:
        return
    try:
        with torch.no_grad():
            recipe.loss(training.loop.model, data.last_batch())
    except ValueError as error:
        if is_about_one_sample(error):
            raise Refused("recipe_error", f"{error}\n{about_one_sample(recipe.config.batch_size)}") from error


def _shown(epoch: ClosedEpoch) -> Mapping[str, Any] | None:
    """The recipe's artifact for the message. One that is too large is left out; the log says so."""
    if epoch.artifact is None:
        return None
    size = num_bytes(epoch.artifact)
    if size > MOST_ARTIFACT_BYTES:
        print(
            f"The artifact of epoch {epoch.epoch} is left out: it has {size} bytes, "
            f"{MOST_ARTIFACT_BYTES} are allowed.",
            file=sys.stderr,
        )
        return None
    return epoch.artifact


def _generate(
    recipe: GenerationRecipe, recipe_digest: str, spec: TrainerSpec, *, send: Send, requests: StopRequests
) -> None:
    generation = Generation(recipe, Path(spec.staging), finished=spec.finished)
    requests.on_stored = generation.stored
    threads = environment.set_threads(spec.threads)
    found = environment.describe(
        torch.device("cpu"),
        threads=threads,
        precision="fp32",
        deterministic=True,
        fingerprint="",
        recipe_digest=recipe_digest,
    )
    send(
        Started(
            step=len(generation.finished),
            epoch=0,
            steps_per_epoch=recipe.shards,
            total_steps=recipe.shards,
            environment=found,
            approximate=environment.why_approximate(found, spec.pinned),
        )
    )
    while not requests.is_exiting:
        is_finished = generation.make_missing(send=send, requests=requests)
        where = {"step": len(generation.finished), "epoch": 0}
        if is_finished:
            send(Finished(**where, reason="shards"))
            requests.wait_for_exit()
        elif not requests.is_exiting:
            send(Stopped(**where))
            requests.wait_for_answer()
