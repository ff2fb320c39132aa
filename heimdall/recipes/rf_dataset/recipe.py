"""One shard of the dataset at a time."""

from functools import cached_property
from pathlib import Path
from typing import Any

from heimdall import GenerationRecipe
from heimdall.recipes.localization import dataset
from heimdall.recipes.localization.random_networks import samples_of
from heimdall.recipes.localization.summary import summary
from heimdall.recipes.rf_dataset.config import Config


class Recipe(GenerationRecipe):
    config: Config

    @cached_property
    def _generator(self) -> dataset.SampleSource:
        return samples_of(self.config.scene, self.config.seed)

    def generate(self, shard: int, folder: Path) -> tuple[Path, dict[str, Any]]:
        config = self.config
        first = config.first_sample
        start, stop = dataset.ranges(first, first + config.samples, config.samples_per_shard)[shard]
        generator = self._generator
        block = generator.samples(start, stop)
        made = dataset.write_block(generator, block, start, folder)
        shown = summary(generator.settings, generator.network, block.arrays, start=start)
        return folder / made.path, made.summary() | shown
