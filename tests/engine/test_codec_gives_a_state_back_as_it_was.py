"""What is saved comes back with every value, bit and type; what would not is refused when saving."""

import inspect
import math
import pathlib
import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn
from torch.optim import lr_scheduler

from heimdall import codec
from heimdall.codec import encoding
from tests.engine.sameness import difference

torch.set_num_threads(1)


def through_a_file(value: object, folder: Path) -> object:
    codec.save(folder / "state.safetensors", value, {})
    return codec.load(folder / "state.safetensors")[0]


_KEYS = st.one_of(
    st.text(max_size=5),
    st.integers(),
    st.booleans(),
    st.none(),
    st.tuples(st.integers(), st.text(max_size=2)),
)
_DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.int8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]
_SHAPES = [(), (0,), (1,), (3, 2), (2, 0, 3)]
_FLOATS = st.one_of(st.floats(), st.sampled_from([math.inf, -math.inf, math.nan, -math.nan, -0.0, 5e-324]))
_TENSORS = st.builds(
    lambda dtype, shape, seed: (
        torch.randint(
            0, 256, (*shape, dtype.itemsize), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
        )
        .view(dtype)
        .reshape(shape)
        if dtype is not torch.bool
        else torch.zeros(shape, dtype=dtype)
    ),
    st.sampled_from(_DTYPES),
    st.sampled_from(_SHAPES),
    st.integers(0, 99),
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    _FLOATS,
    st.complex_numbers(),
    st.text(max_size=10),
    st.binary(max_size=10),
    st.binary(max_size=10).map(bytearray),
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8]).flatmap(
        lambda t: st.integers(0, 99).map(t)
    ),
    st.sampled_from(
        [np.bool_(True), np.float64("nan"), np.complex128(1j), np.datetime64("2020-01-01"), np.float16(-0.0)]
    ),
    st.sampled_from(
        [torch.bfloat16, torch.device("cuda", 1), torch.device("cpu"), torch.Size([1, 2]), np.dtype("<f4")]
    ),
    _TENSORS,
    st.sampled_from(["<f8", ">f8", "|b1", "<u2", "<c16", "<c8", "<i8"]).flatmap(
        lambda name: st.sampled_from(_SHAPES).map(lambda shape: np.ones(shape, dtype=name))
    ),
    st.sets(st.one_of(st.integers(), st.text(max_size=3), st.floats(allow_nan=False))),
    st.frozensets(st.integers()),
    st.builds(Counter, st.dictionaries(_KEYS, st.integers(), max_size=3)),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda items: deque(items, maxlen=7)),
        st.dictionaries(_KEYS, inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["$", "a/b", "", "__metadata__", "v", "\ud800", "e"]), inner, max_size=4
        ),
        st.dictionaries(_KEYS, inner, max_size=4).map(OrderedDict),
        st.dictionaries(_KEYS, inner, max_size=3).map(lambda items: defaultdict(list, items)),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_VALUES)
def test_decoding_what_was_encoded_gives_the_same_value(tmp_path: Path, value: object) -> None:
    assert difference(through_a_file(value, tmp_path), value) == ""


def test_the_order_of_a_dict_is_kept(tmp_path: Path) -> None:
    value = {"z": 1, "a": 2, 5: {3: 1, 1: 2}}
    assert list(through_a_file(value, tmp_path)) == ["z", "a", 5]


def test_a_set_is_written_in_one_order() -> None:
    words = [f"word{number}" for number in range(50)]
    texts = set()
    for _ in range(5):
        random.shuffle(words)
        texts.add(encoding.encode(set(words)).text)
    assert len(texts) == 1


def _optimizers() -> list[type[torch.optim.Optimizer]]:
    found = [item for item in vars(torch.optim).values() if inspect.isclass(item)]
    return [
        item
        for item in found
        if issubclass(item, torch.optim.Optimizer) and item is not torch.optim.Optimizer
    ]


@pytest.mark.parametrize("kind", _optimizers(), ids=lambda kind: kind.__name__)
def test_every_torch_optimizer_comes_back(kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    optimizer, step = _optimizer_at_work(kind)
    for _ in range(3):
        step()
    saved = optimizer.state_dict()
    loaded = through_a_file(saved, tmp_path)
    assert difference(loaded, saved) == ""
    other, _ = _optimizer_at_work(kind)
    other.load_state_dict(loaded)
    assert difference(other.state_dict(), saved) == ""


def _optimizer_at_work(kind: type[torch.optim.Optimizer]) -> tuple[torch.optim.Optimizer, object]:
    torch.manual_seed(0)
    if kind is torch.optim.SparseAdam:
        model: nn.Module = nn.Embedding(5, 3, sparse=True)
        data = torch.tensor([1, 2])
    else:
        model, data = nn.Linear(4, 3, bias=kind.__name__ != "Muon"), torch.randn(2, 4)
    optimizer = kind(model.parameters())  # type: ignore[call-arg]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(data).square().sum()
        loss.backward()
        return loss

    return optimizer, lambda: optimizer.step(closure)


_ARGUMENTS = {
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
    "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.9},
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4, 4]},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 10},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20},
}


def _schedulers() -> list[str]:
    found = {name for name, item in vars(lr_scheduler).items() if inspect.isclass(item)}
    kinds = {name for name in found if issubclass(getattr(lr_scheduler, name), lr_scheduler.LRScheduler)}
    return sorted(kinds - {"LRScheduler", "_LRScheduler"})


def _scheduler(name: str, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    if name == "SequentialLR":
        inner = [lr_scheduler.ConstantLR(optimizer), _scheduler("MultiStepLR", optimizer)]
        return lr_scheduler.SequentialLR(optimizer, inner, milestones=[2])
    if name == "ChainedScheduler":
        return lr_scheduler.ChainedScheduler(
            [_scheduler("MultiStepLR", optimizer), _scheduler("StepLR", optimizer)]
        )
    return getattr(lr_scheduler, name)(optimizer, **_ARGUMENTS.get(name, {}))


@pytest.mark.parametrize("name", _schedulers())
def test_every_torch_scheduler_comes_back_and_goes_on_alike(name: str, tmp_path: Path) -> None:
    optimizers = [torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1) for _ in range(2)]
    first, second = (_scheduler(name, optimizer) for optimizer in optimizers)
    for _ in range(3):
        _step(first, optimizers[0])
    loaded = through_a_file([first.state_dict(), optimizers[0].state_dict()], tmp_path)
    assert difference(loaded, [first.state_dict(), optimizers[0].state_dict()]) == ""
    second.load_state_dict(loaded[0])
    optimizers[1].load_state_dict(loaded[1])
    rates = []
    for _ in range(4):
        for scheduler, optimizer in zip((first, second), optimizers, strict=True):
            _step(scheduler, optimizer)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
    assert all(left == right for left, right in rates)


def _step(scheduler: lr_scheduler.LRScheduler, optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))


def test_the_generators_come_back(tmp_path: Path) -> None:
    numpy_generator = np.random.default_rng(3)
    states = {
        "python": random.Random(1).getstate(),
        "numpy": np.random.get_state(),
        "new numpy": numpy_generator.bit_generator.state,
        "torch": torch.get_rng_state(),
    }
    loaded = through_a_file(states, tmp_path)
    assert difference(loaded, states) == ""
    again = np.random.default_rng()
    again.bit_generator.state = loaded["new numpy"]
    assert again.random() == numpy_generator.random()


def test_a_shared_tensor_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    parts = {"model": {"embed": weight, "head": weight.view(4, 4), "turned": weight.t()}}
    codec.save(tmp_path / "a", parts, {})
    assert codec.verify(tmp_path / "a").names == ["model/embed", "model/turned"]
    loaded, _ = codec.load(tmp_path / "a")
    assert loaded["model"]["embed"].data_ptr() == loaded["model"]["head"].data_ptr()
    assert difference(loaded, parts) == ""


def test_loaded_tensors_own_their_memory(tmp_path: Path) -> None:
    parts = [torch.randn(100) for _ in range(3)]
    codec.save(tmp_path / "a", parts, {})
    loaded, _ = codec.load(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"")
    for tensor in loaded:
        tensor.zero_()
        assert tensor.untyped_storage().nbytes() == 400
    assert len({tensor.untyped_storage().data_ptr() for tensor in loaded}) == 3


def test_the_layout_of_a_tensor_is_kept(tmp_path: Path) -> None:
    picture = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    parts = [picture, picture.permute(1, 0, 3, 2), torch.randn(6, 6)[::2, 1:], torch.randn(3).expand(4, 3)]
    loaded = through_a_file(parts, tmp_path)
    assert difference(loaded, parts) == ""
    assert [tensor.stride() for tensor in loaded[:2]] == [tensor.stride() for tensor in parts[:2]]
    assert all(tensor.is_contiguous() for tensor in loaded[2:])


def test_a_conjugate_view_and_a_parameter_come_back(tmp_path: Path) -> None:
    parts = [torch.randn(3, dtype=torch.complex64).conj(), nn.Parameter(torch.randn(2), requires_grad=False)]
    loaded = through_a_file(parts, tmp_path)
    assert difference(loaded, [parts[0].resolve_conj(), parts[1]]) == ""
    assert not loaded[1].requires_grad


class _Word(str):
    pass


_Point = namedtuple("_Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        _Word("a"),
        _Point(1, 2),
        pathlib.Path("/etc"),
        lambda: None,
        torch.randn(3).to_sparse(),
        torch.empty(3, device="meta"),
        np.array([object()]),
        np.array(["text"]),
        np.longdouble(1),
        defaultdict(lambda: 3),
        torch.Generator(),
        nn.Linear(1, 1),
        range(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unknown_type_is_refused_with_its_place(value: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="optimizer/state/0/x"):
        codec.save(tmp_path / "a", {"optimizer": {"state": {0: {"x": value}}}}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_state_within_itself_is_refused(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested"):
        codec.save(tmp_path / "a", endless, {})


def test_what_is_said_about_a_checkpoint_does_not_touch_its_digest(tmp_path: Path) -> None:
    parts = {"model": {"w": torch.ones(3)}, "n": 3}
    first = codec.save(tmp_path / "a", parts, {"job": 1, "val_loss": math.nan})
    second = codec.save(tmp_path / "b", parts, {"job": 2})
    other = codec.save(tmp_path / "c", parts | {"n": 3.0}, {"job": 1})
    assert first.digest == second.digest != other.digest
    assert codec.read_about(tmp_path / "a") == {"job": 1, "val_loss": "nan"}
    assert codec.load(tmp_path / "b")[1] == {"job": 2}
