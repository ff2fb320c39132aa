import time
from pathlib import Path

from heimdall import GenerationRecipe


class Recipe(GenerationRecipe):
    def generate(self, shard: int, folder: Path):
        time.sleep(self.config.shard_seconds)
        path = folder / f"shard-{shard:05}.txt"
        path.write_text("\n".join(str(shard * 1000 + number) for number in range(10)))
        return path, {"samples": 10}
