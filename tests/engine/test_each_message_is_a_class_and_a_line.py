"""The trainer's protocol: what comes through, what is refused and why, and a page that says what there is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heimdall.trainer import exit_codes, protocol, protocol_page
from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import ChildEnds, Process
from heimdall.trainer.protocol import (
    VERSION,
    EpochDone,
    Failed,
    FromTrainer,
    Hello,
    OtherVersion,
    ProtocolError,
    StagedCheckpoint,
    StopTraining,
    ToTrainer,
    TrainerSpec,
    decode,
    encode,
)

ROOT = Path(__file__).parents[2]
STAGED = StagedCheckpoint("/a", 4, 1, ("pause", "best"), "d", 10, "f", val_loss=0.5)


@pytest.mark.parametrize(
    "message",
    [
        STAGED,
        EpochDone(4, 1, {"loss": 1.5}, artifact={"kind": "x"}),
        EpochDone(4, 1, {}, best_val_loss=float("-inf")),
        Hello(),
        StopTraining("epoch"),
        TrainerSpec("a.recipe", {"x": 1}, "/staging", gpus=["GPU-1"], finished=[1, 2]),
    ],
    ids=lambda message: message.kind,
)
def test_a_message_comes_through_as_it_was(message: protocol.WireMessage) -> None:
    found = decode(encode(message), type(message))
    assert found == message
    assert [type(value) for value in vars(found).values()] == [
        type(value) for value in vars(message).values()
    ]


@pytest.mark.parametrize(
    ("line", "wanted", "sentence"),
    [
        (b"[1]\n", FromTrainer, "None is not a message up of version"),
        (b"{\n", FromTrainer, "This line is no JSON"),
        (b'{"kind":"nothing"}\n', FromTrainer, "'nothing' is not a message up"),
        (b'{"kind":["x"]}\n', FromTrainer, "is not a message up"),
        (b'{"kind":"exit"}\n', FromTrainer, "'exit' is not a message up"),
        (b'{"kind":"stop","at":"step","why":""}\n', ToTrainer, "stop has no field why"),
        (b'{"kind":"stop"}\n', ToTrainer, "stop lacks its field at"),
        (b'{"kind":"stop","at":7}\n', ToTrainer, "at of stop cannot be 7"),
        (b'{"kind":"stopped","step":true,"epoch":0}\n', FromTrainer, "step of stopped cannot be True"),
        (b'{"kind":"finished","step":1,"epoch":0}\n', Hello, "'finished' is not hello"),
    ],
)
def test_another_line_is_refused_with_what_is_wrong(line: bytes, wanted: type, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        decode(line, wanted)


@pytest.mark.parametrize(
    "message", [Hello(version=VERSION + 1), TrainerSpec("a", {}, "/s", version=VERSION + 1)]
)
def test_another_version_is_named_whatever_else_it_says(message: protocol.WireMessage) -> None:
    line = encode(message).replace(b'"kind"', b'"news":1,"kind"', 1)
    with pytest.raises(OtherVersion, match=f"speaks version {VERSION + 1} .* this one version {VERSION}"):
        decode(line, type(message))


def test_a_trainer_refuses_a_supervisor_of_another_version(tmp_path: Path) -> None:
    trainer = Trainer.start(TrainerSpec("a", {}, str(tmp_path), version=VERSION + 1))
    assert trainer.wait(60)
    while trainer.exit_status() is None:
        trainer.receive(0.1)
    assert trainer.exit_status() == exit_codes.MISUNDERSTOOD
    assert "Run the same version of Heimdall at both ends." in trainer.read_log()
    trainer.close()


class SaysAtOnce:
    """A trainer that says something else than it should, and waits."""

    def __init__(self, *lines: bytes):
        self._lines = lines

    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process:
        os.write(ends.messages, b"".join(self._lines))
        return ColdLauncher("tests.engine.standin_waiter").launch(spec, ends)


@pytest.mark.parametrize(
    ("lines", "code", "sentence"),
    [
        ([encode(Hello(version=VERSION + 1))], "other_version", "speaks version"),
        ([encode(STAGED)], "protocol_error", "is not hello"),
        ([encode(Hello()), b"nonsense\n"], "protocol_error", "no JSON: nonsense"),
    ],
)
def test_a_supervisor_fails_a_trainer_that_it_cannot_understand(
    tmp_path: Path, lines: list[bytes], code: str, sentence: str
) -> None:
    trainer = Trainer.start(TrainerSpec("a", {}, str(tmp_path)), launcher=SaysAtOnce(*lines))
    failed = trainer.receive(30)
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert sentence in failed.error
    trainer.kill()
    trainer.close()


def test_the_page_is_not_stale() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    assert page == protocol_page.page(), "docs/protocol.md is stale: run make diagram"


def test_nobody_else_writes_or_reads_a_message_as_a_dict() -> None:
    kinds = {one.kind for one in protocol.messages()}
    found = []
    for path in [*(ROOT / "heimdall").rglob("*.py"), *(ROOT / "training" / "runner").rglob("*.py")]:
        if path.is_relative_to(ROOT / "heimdall" / "client"):  # reads the API, whose events have a kind too
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                found += [
                    f"{path.name}:{node.lineno}"
                    for key, value in pairs
                    if _is(key, {"kind"}) and _is(value, kinds)
                ]
            if (
                isinstance(node, ast.Subscript)
                and _is(node.slice, {"kind"})
                and not ast.unparse(node.value).endswith("program")  # what a job has instead of a recipe
            ):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def _is(node: ast.AST | None, values: set[str]) -> bool:
    return isinstance(node, ast.Constant) and node.value in values


@pytest.mark.parametrize(
    "module",
    [
        "protocol",
        "handle",
        "launch",
        "channel",
        "cold",
        "cold_server",
        "forkserver",
        "server_handle",
        "warm",
        "zygote",
    ],
)
def test_no_end_needs_torch_or_the_engine(module: str) -> None:
    code = (
        f"import sys, heimdall.trainer.{module};"
        "print(sorted({'torch', 'numpy', 'django', 'heimdall.engine', 'training'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
