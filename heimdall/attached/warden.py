"""A warden: the process that starts one command, passes on what it prints, and lets nothing of it live on.

    python -I -S warden.py MESSAGES PARENT          a file of the standard library alone, in a session of its own

Its first line of standard input is the order; further lines ask it to stop the command. What the command prints goes
to standard output as it comes. On the pipe MESSAGES it says, one JSON object a line:

    {"matches": [{"loss": "0.5"}, ...]}             what the patterns found, a dict for each line with a match
    {"sign": true}                                  the command printed something or used the processor
    {"refused": "...", "errno": 2, "is_folder": false}         it could not be started
    {"ended": 0, "tail": "...", "forced_at": null}  nothing is left of it; the code is negative for a signal

It is a subreaper: whatever the command started becomes its child when its parent ends, in whatever session it is (a
daemon that forked twice, too). When the command ends, what it left behind has a moment to leave and is then killed.
When the trainer ends, however it does, all is killed at once. Should the warden itself be killed, the kernel kills
the command, and the trainer, a subreaper too, what the command had started. Only who kills trainer and warden in the
same moment, where no fork server is their parent, leaves something behind: a process that is not the command itself.
"""

import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

CHUNK = 65_536
LONGEST_LINE = 4_096  # of longer ones the patterns see the beginning
LONGEST_VALUE = 40
PATTERN_SECONDS = 0.25  # of processor time that the patterns may take for a line
SIGN_SECONDS = 10.0
LEAVE_SECONDS, TERM_SECONDS = 1.0, 5.0
TAIL_BYTES = 4_000
PARENT_DIED = signal.SIGUSR1

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_COLOURS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_LINE_ENDS = re.compile(rb"[\r\n]")


class ProcessFacts(NamedTuple):
    parent: int
    ticks: int
    """Of processor time, with that of children that have ended."""


def become_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, value, 0, 0, 0)


_libc = ctypes.CDLL(None, use_errno=True)  # now: between fork and exec nothing may be loaded


def descendants(root: int) -> dict[int, ProcessFacts]:
    """All processes below this one, ended ones that nobody has waited for included."""
    all_of_them = dict(_processes())
    found: dict[int, ProcessFacts] = {}
    parents = {root}
    while parents:
        born = {
            pid: facts
            for pid, facts in all_of_them.items()
            if facts.parent in parents and pid not in found and pid != root
        }
        found |= born
        parents = set(born)
    return found


def _processes() -> Any:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            yield int(name), ProcessFacts(int(fields[1]), sum(map(int, fields[11:15])))


def end_descendants(seconds: float = 10.0) -> None:
    """Kill all that is below this process. The children of one that is killed become ours, so look again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


class TooSlow(Exception):
    """The patterns took too long for a line."""


class LineReader:
    """Reads metrics from output as it comes: lines of any length, progress bars, no newline at the end."""

    def __init__(self, patterns: list[str]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._begun = b""  # a line whose end was not printed yet
        self._is_searching = False
        signal.signal(signal.SIGVTALRM, self._on_alarm)

    def read(self, chunk: bytes) -> list[dict[str, str]]:
        if not self._patterns:
            return []
        *lines, begun = _LINE_ENDS.split(self._begun + chunk)
        self._begun = begun[:LONGEST_LINE]
        return [match for line in lines if (match := self._match(line))]

    def rest(self) -> list[dict[str, str]]:
        return self.read(b"\n")

    def _match(self, line: bytes) -> dict[str, str]:
        if not line:
            return {}
        text = _COLOURS.sub(b"", line[:LONGEST_LINE]).decode("utf-8", "replace")
        found: dict[str, str] = {}
        for pattern in list(self._patterns):
            try:
                match = self._search(pattern, text)
            except TooSlow:
                self._patterns.remove(pattern)
                say(
                    f"the metric pattern {pattern.pattern!r} takes too long for a line, and is not read any more"
                )
                continue
            if match:
                values = match.groupdict().items()
                found |= {name: value for name, value in values if value and len(value) <= LONGEST_VALUE}
        return found

    def _search(self, pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
        """The machine of regular expressions looks for signals now and then: some would search for years."""
        signal.setitimer(signal.ITIMER_VIRTUAL, PATTERN_SECONDS)
        try:
            self._is_searching = True
            return pattern.search(text)
        finally:
            self._is_searching = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _on_alarm(self, *_: Any) -> None:
        if self._is_searching:
            self._is_searching = False
            raise TooSlow


class Warden:
    def __init__(self, order: dict[str, Any], messages: int) -> None:
        self._order, self._messages = order, messages
        self._lines = LineReader(order["patterns"])
        self._tail = b""
        self._main = 0
        self._code: int | None = None
        self._has_children = True
        self._unread_requests = b""
        self._pause_signal: int | None = None
        self._due: list[tuple[float, int]] = []  # when which signal is sent to all that is left
        self._forced_at: float | None = None
        self._has_printed, self._ticks, self._sign_at = False, 0, 0.0

    def start(self) -> bool:
        """Start the command; False where that could not be done, which is told."""
        self._output, theirs = os.pipe()
        warden = os.getpid()

        def before_exec() -> None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != warden:
                os._exit(1)

        try:
            self._process = subprocess.Popen(
                self._order["command"],
                cwd=self._order["folder"],
                env=self._order["environment"],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before_exec,
            )
        except OSError as error:
            is_folder = error.filename == self._order["folder"]
            self._tell(refused=error.strerror, errno=error.errno, is_folder=is_folder)
            return False
        finally:
            os.close(theirs)
        self._main = self._process.pid
        return True

    def follow(self) -> None:
        """A loop: 1 who ended, 2 what was printed, 3 what is asked, 4 what is due. Ends when nothing is left."""
        wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        sources = [0, self._output, wake]
        self._reap()
        while self._code is None or self._has_children:
            readable = select.select(sources, [], [], self._patience())[0]
            if wake in readable:
                os.read(wake, 4_096)
            self._reap()
            if self._output in readable and not self._pass_on():
                sources.remove(self._output)
            if 0 in readable:
                self._take_requests()
            self._send_what_is_due()
            self._give_a_sign()
        os.set_blocking(self._output, False)
        with suppress(BlockingIOError):
            while self._pass_on():
                pass
        self._tell_matches(self._lines.rest())
        self._tell(ended=self._code, tail=self._tail.decode("utf-8", "replace"), forced_at=self._forced_at)

    # 1. Who ended.

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._main:
                    self._code = os.waitstatus_to_exitcode(status)
                    self._main_has_ended()
        self._has_children = False

    def _main_has_ended(self) -> None:
        """What it left behind goes too: at a stop as if it had been asked itself, else after a moment."""
        if self._pause_signal is not None:
            self._signal_all(self._pause_signal)
        else:
            now = time.monotonic()
            self._due = [
                (now + LEAVE_SECONDS, signal.SIGTERM),
                (now + LEAVE_SECONDS + TERM_SECONDS, signal.SIGKILL),
            ]

    # 2. What was printed.

    def _pass_on(self) -> bool:
        """Whether there will be more."""
        chunk = os.read(self._output, CHUNK)
        if not chunk:
            return False
        write_all(1, chunk)
        self._tail = (self._tail + chunk)[-TAIL_BYTES:]
        self._has_printed = True
        self._tell_matches(self._lines.read(chunk))
        return True

    def _tell_matches(self, matches: list[dict[str, str]]) -> None:
        if matches:
            self._tell(matches=matches)

    # 3. What is asked.

    def _take_requests(self) -> None:
        chunk = os.read(0, CHUNK)
        if not chunk:
            end_at_once()
        *lines, self._unread_requests = (self._unread_requests + chunk).split(b"\n")
        for line in lines:
            self._stop(**json.loads(line))

    def _stop(self, *, number: int, seconds: float) -> None:
        """Ask the command itself; what it started may be loader workers, which it ends by itself."""
        now = time.monotonic()
        self._due = [(now + seconds, signal.SIGTERM), (now + seconds + TERM_SECONDS, signal.SIGKILL)]
        self._pause_signal = number
        if number == signal.SIGKILL:
            self._due = [(now, number)]
        elif self._code is None:
            os.kill(self._main, number)
        else:
            self._signal_all(number)

    # 4. What is due.

    def _patience(self) -> float:
        return max(min([SIGN_SECONDS, *(at - time.monotonic() for at, _ in self._due)]), 0.0)

    def _send_what_is_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, number = self._due.pop(0)
            if self._forced_at is None:
                self._forced_at = time.time()
            if self._pause_signal is None and number == signal.SIGTERM:
                say("the command has ended; what it left behind is ended too")
            self._signal_all(number)
            if number == signal.SIGKILL:  # until none is left: they may just have started another one
                self._due.append((time.monotonic() + 0.01, number))

    def _signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, number)

    def _give_a_sign(self) -> None:
        """A command that neither prints nor uses a hundredth of a core does nothing."""
        if time.monotonic() < self._sign_at:
            return
        self._sign_at = time.monotonic() + SIGN_SECONDS
        ticks = sum(facts.ticks for facts in descendants(os.getpid()).values())
        if self._has_printed or ticks - self._ticks >= SIGN_SECONDS * os.sysconf("SC_CLK_TCK") / 100:
            self._tell(sign=True)
        self._has_printed, self._ticks = False, ticks

    def _tell(self, **message: Any) -> None:
        write_all(self._messages, json.dumps(message).encode() + b"\n")


def say(sentence: str) -> None:
    write_all(1, f"heimdall: {sentence}\n".encode())


def write_all(fd: int, data: bytes) -> None:
    """Who reads is the trainer and its supervisor: where they are gone, so is the command."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        end_at_once()


def end_at_once(*_: Any) -> NoReturn:
    end_descendants()
    os._exit(0)


def main() -> None:
    messages, parent = int(sys.argv[1]), int(sys.argv[2])

    def on_parent_died(*_: Any) -> None:
        if os.getppid() != parent:  # and not just anybody's signal
            end_at_once()

    become_subreaper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # meant for the worker
    signal.signal(PARENT_DIED, on_parent_died)
    _prctl(_PR_SET_PDEATHSIG, PARENT_DIED)
    on_parent_died()
    os.set_inheritable(messages, False)
    warden = Warden(json.loads(_first_line()), messages)
    if warden.start():
        warden.follow()


def _first_line() -> bytes:
    """The order, and not a byte more: what follows it is read as it comes."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            end_at_once()
        line += byte
    return line


if __name__ == "__main__":
    main()
