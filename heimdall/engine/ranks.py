"""The processes that train together, as one of them sees it: what they agree on, gather, and do after the same step.

They meet at a store that rank 0 opens. What must be the same everywhere (a stop, a checkpoint, the end of an epoch)
is rank 0's decision. Between two steps it costs no message: rank 0 announces on the page that they share what all do
after a step that none of them has reached.
"""

import json
import os
import socket
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from heimdall.engine.errors import Refused
from heimdall.engine.rng import mix, seed_again
from heimdall.trainer.channel import Channel
from heimdall.trainer.protocol import TrainerSpec
from heimdall.trainer.ranks import RankChannel, RankPage

STOP, CHECKPOINT, ROWS = 1, 2, 4
MEET_SECONDS = 120
TALK_SECONDS = 24 * 3600  # a rank that ends ends all: what takes long is a long validation, say
# How many steps ahead rank 0 announces. A step on CPUs ends when all have come so far. CUDA's end later than the
# process that asked for them goes on: there each also waits until none is more than two steps behind.
LEAD = {"cpu": 1, "cuda": 3}


class Place(NamedTuple):
    """Which of the ranks of this host a process is."""

    page: RankPage
    rank: int

    @classmethod
    def of(cls, channel: Channel | RankChannel) -> "Place | None":
        return None if channel.page is None else cls(channel.page, channel.rank)


class Ranks:
    def __init__(self, spec: TrainerSpec, place: Place, *, lead: int) -> None:
        """lead: how many steps ahead rank 0 announces."""
        self._page, self._local = place
        self.number = spec.rank_offset + self._local
        self.count = spec.world_size or spec.ranks
        self.backend = ""
        self._lead = lead
        self._releases = 0
        self._has_several_hosts = self.count > spec.ranks
        self._store = self._meet(spec.rendezvous)
        # What ranks say to each other lies in main memory. The group is ours alone: a script opens its own.
        self._group = dist.ProcessGroupGloo(
            dist.PrefixStore("heimdall", self._store),
            self.number,
            self.count,
            timedelta(seconds=TALK_SECONDS),
        )

    @classmethod
    def of_recipe(cls, spec: TrainerSpec, place: Place, *, device: torch.device) -> "Ranks":
        """With torch's own group of all ranks, by which gradients travel."""
        ranks = cls(spec, place, lead=LEAD[device.type])
        ranks.backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            os.environ.setdefault("NCCL_ALGO", "Ring")  # others add up in an order that varies
        store = dist.PrefixStore("gradients", ranks._store)
        dist.init_process_group(ranks.backend, store=store, rank=ranks.number, world_size=ranks.count)
        return ranks

    def _meet(self, rendezvous: str) -> dist.TCPStore:
        timeout = timedelta(seconds=MEET_SECONDS)
        host, _, port = rendezvous.rpartition(":")
        is_leader = self.is_leader
        number = int(port or 0) if is_leader or port else self._page.port
        store = dist.TCPStore(
            host or "127.0.0.1", number, self.count, is_leader, timeout=timeout, wait_for_workers=False
        )
        if is_leader:
            self._page.port = store.port
        # As torchrun has them: a script's own init_process_group() finds the store that is there already.
        os.environ |= {
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }
        return store

    @property
    def is_leader(self) -> bool:
        return self.number == 0

    @property
    def leads_its_host(self) -> bool:
        """Whether its supervisor speaks to it, though on another host than rank 0's."""
        return self._local == 0

    def seed(self, seed: int) -> None:
        """Everything is built, with the same numbers everywhere: from here on each rank draws its own."""
        if not self.is_leader:
            seed_again(mix(seed, "rank", self.number, 0))

    # After a step.

    def meet(self, step: int, wanted: int = 0) -> int:
        """What all do after this step. `wanted` is what rank 0 would like: it is done some steps later, or at once
        where hosts share no page and a message says it."""
        if self._has_several_hosts:
            return self.agree(wanted)
        page = self._page
        page.passed(self._local, step)
        if self._lead > 1:
            page.wait(lambda: page.slowest(self.count) >= step - self._lead + 1)
        if wanted and self.is_leader:
            page.announce(step + self._lead, wanted)
        return page.announced(step)

    # At a place that all reach.

    def agree(self, value: int = 0) -> int:
        """Rank 0's value."""
        found = torch.tensor([value], dtype=torch.int64)
        self._group.broadcast(found, 0).wait()  # type: ignore[attr-defined]
        return int(found.item())

    def wait_for_all(self) -> None:
        """Until each rank has come so far. (To agree does not: rank 0 has said it when nobody may have heard it.)"""
        self.gather(b"")

    def gather(self, data: bytes) -> list[bytes]:
        """What each has, in the order of ranks, on every rank."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        self._group.allgather(sizes, torch.tensor([len(data)], dtype=torch.int64)).wait()  # type: ignore[attr-defined]
        lengths = [int(size.item()) for size in sizes]
        longest = max(1, *lengths)
        places = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.count)]
        own = torch.zeros(longest, dtype=torch.uint8)
        own.numpy()[: len(data)] = memoryview(data)
        self._group.allgather(places, own).wait()  # type: ignore[attr-defined]
        return [place.numpy()[:length].tobytes() for place, length in zip(places, lengths, strict=True)]

    def share(self, data: bytes) -> bytes:
        """What rank 0 has, on every rank."""
        size = self.agree(len(data))
        text = torch.zeros(max(1, size), dtype=torch.uint8)
        if self.is_leader:
            text.numpy()[:size] = memoryview(data)
        self._group.broadcast(text, 0).wait()  # type: ignore[attr-defined]
        return text.numpy()[:size].tobytes()

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Every rank has rank 0's statistics of batch normalization, and whatever else is a buffer."""
        for buffer in model.buffers():
            if buffer.numel():
                found = _bytes_of(buffer)
                self._group.broadcast(found, 0).wait()  # type: ignore[attr-defined]
                buffer.copy_(found.view(buffer.dtype).reshape(buffer.shape))

    # A validation that is not wanted any more.

    @property
    def is_abandoned(self) -> bool:
        return self._page.is_abandoned

    def abandon(self) -> None:
        self._page.is_abandoned = True

    def agree_whether_abandoned(self) -> bool:
        is_abandoned = bool(self.agree(int(self.is_leader and self._page.is_abandoned)))
        if self.is_leader:
            self._page.is_abandoned = False
        return is_abandoned

    # A stop that was withdrawn.

    def release(self) -> None:
        """Rank 0: all train on."""
        if self._has_several_hosts:
            self.agree()
        self._page.forget_announcements()
        self._page.release()

    def wait_for_release(self) -> None:
        if self._has_several_hosts:
            self.agree()
            return
        self._page.wait(lambda: self._page.releases > self._releases)
        self._releases += 1

    # What is found.

    def members(self, device: torch.device) -> list[dict[str, Any]]:
        """Of each rank where it is and what it computes on."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        own = {"rank": self.number, "host": socket.gethostname(), "pid": os.getpid(), "device": name}
        return [json.loads(found) for found in self.gather(json.dumps(own).encode())]

    def described(self, device: torch.device) -> dict[str, Any]:
        """What an attempt stands on beside what one device has."""
        described: dict[str, Any] = {"world_size": self.count}
        if self.backend:
            described["backend"] = self.backend
        if device.type == "cuda":
            described["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
        return described


class OneProcess:
    """One process in the place of several."""

    number, count, is_leader = 0, 1, True

    def __init__(self) -> None:
        self.is_abandoned = False

    def agree(self, value: int = 0) -> int:
        return value

    def gather(self, data: bytes) -> list[bytes]:
        return [data]

    def share(self, data: bytes) -> bytes:
        return data

    def share_buffers(self, model: nn.Module) -> None:
        """They are its own."""

    def abandon(self) -> None:
        self.is_abandoned = True

    def agree_whether_abandoned(self) -> bool:
        is_abandoned, self.is_abandoned = self.is_abandoned, False
        return is_abandoned


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).clone()


def choose_device_of(rank: int, device: torch.device) -> torch.device:
    """The GPU of a rank of this host, among those that the trainer sees."""
    if device.type != "cuda":
        return device
    if rank >= torch.cuda.device_count():
        raise Refused(
            "no_device",
            f"Rank {rank} has no GPU: the trainer sees {torch.cuda.device_count()}. Ask for fewer devices.",
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)
