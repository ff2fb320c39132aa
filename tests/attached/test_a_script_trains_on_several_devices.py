"""A script with torch.distributed of its own: started once a device, its batches cut among them, resumed exactly."""

import sys
from pathlib import Path

import pytest

from heimdall import codec
from heimdall.attached.loaders import KeyedLoader
from heimdall.check.compare import first_difference
from tests.attached.scripts import ended, spec_of, warm, written

linux = pytest.mark.skipif(sys.platform != "linux", reason="several ranks need Linux")
SCRIPT = """
    import heimdall, os, random, torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, Dataset

    class Points(Dataset):
        def __len__(self):
            return 48
        def __getitem__(self, index):
            return torch.full((8,), index / 48) + 0.1 * torch.randn(8), torch.tensor(index % 3)

    torch.distributed.init_process_group("gloo")
    assert torch.distributed.get_world_size() == int(os.environ["WORLD_SIZE"])
    inner = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    model = DistributedDataParallel(inner)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    job = heimdall.attach(model=inner, optimizer=optimizer)
    loader = DataLoader(Points(), batch_size=12, shuffle=True)
    for epoch in job.epochs(2):
        for inputs, targets in job.batches(loader):
            assert len(inputs) == 4
            loss = nn.functional.cross_entropy(model(inputs), targets) * (1 + random.random())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            job.log(loss=loss)
"""


def trained(folder, script, launcher, **spec):
    folder.mkdir()
    spec = {"ranks": 3, "gpus": [None] * 3, "device": "cpu", "threads": 1} | spec
    found = ended(spec_of(folder, script, **spec), launcher)
    assert found.code == 0, found.log
    return found


@linux
@pytest.mark.processes
def test_stopped_and_resumed_three_ranks_of_a_script_end_with_the_same_bits(tmp_path):
    (tmp_path / "code").mkdir()
    script = written(tmp_path / "code", SCRIPT)
    with warm() as launcher:
        straight = trained(tmp_path / "straight", script, launcher)
        first = trained(tmp_path / "first", script, launcher, until_step=1)
        staged = first.of("staged")[-1]
        expected = {"step": staged.step, "epoch": staged.epoch, "digest": staged.digest}
        rest = trained(tmp_path / "rest", script, launcher, checkpoint=staged.path, expected=expected)
    one, other = straight.of("staged")[-1], rest.of("staged")[-1]
    loaded = codec.load(one.path)[0]
    assert first_difference(Path(one.path), Path(other.path)) == ""
    assert one.digest == other.digest
    assert [*first.rows, *rest.rows] == straight.rows
    assert list(loaded["rng"]) == ["0", "1", "2"]
    assert [member["rank"] for member in straight.of("started")[0].ranks] == [0, 1, 2]


def test_a_batch_is_cut_among_ranks_unless_its_sampler_has_done_so():
    from torch.utils.data import DataLoader, DistributedSampler

    data = list(range(10))
    loaders = [KeyedLoader(DataLoader(data, batch_size=4), seed=1, rank_of=(rank, 3)) for rank in range(3)]
    batches = [[batch.tolist() for batch in loader.batches(0, 0, 0)] for loader in loaders]
    assert [[part for rank in parts for part in rank] for parts in zip(*batches, strict=True)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 8, 9],  # fewer samples than ranks: one is read twice
    ]
    sampler = DistributedSampler(data, num_replicas=2, rank=1, shuffle=False)
    loader = KeyedLoader(DataLoader(data, batch_size=4, sampler=sampler), seed=1, rank_of=(1, 2))
    assert [batch.tolist() for batch in loader.batches(0, 0, 0)] == [[1, 3, 5, 7], [9]]
