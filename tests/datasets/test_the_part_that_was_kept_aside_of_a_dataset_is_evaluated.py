"""The samples of a dataset that a training did not see: brought for the evaluation as they were for the training."""

import io

import pytest
from django.core.management import CommandError, call_command

from heimdall import codec
from heimdall.recipes import registry
from tests.recipes.in_process import train
from training.store import datasets

pytestmark = pytest.mark.django_db
FIELDS = {
    "dataset": "north", "epochs": 1, "batch_size": 64, "samples": 300, "width": 8, "heads": 2, "layers": 1,
    "refinements": 1, "test_split": 0.3,
}  # fmt: skip


@pytest.fixture
def checkpoint(dataset, tmp_path):
    datasets.bring(dataset, tmp_path / "run" / "scratch" / "datasets")
    run = train("localization", FIELDS, tmp_path / "run")
    environment = run.of("started")[-1].environment
    config = registry.validate("localization", FIELDS)
    about = {"recipe": registry.get("localization").package, "config": config, "epoch": 1, "step": 3}
    codec.save(tmp_path / "final.safetensors", run.parts, about | {"environment": environment})
    return tmp_path / "final.safetensors"


def said(*words) -> str:
    out = io.StringIO()
    call_command("localization", *map(str, words), stdout=out)
    return out.getvalue()


def test_it_is_evaluated_on_where_the_dataset_is_and_refused_with_a_sentence_where_it_is_not(
    checkpoint, dataset
):
    told = said("evaluate", checkpoint, "--test-part")
    assert " samples of its own test part. Trained on 300 samples of dataset north (training, " in told
    type(dataset).objects.filter(pk=dataset.pk).update(name="south")
    with pytest.raises(CommandError, match="The dataset north is not here"):
        said("evaluate", checkpoint, "--test-part")
