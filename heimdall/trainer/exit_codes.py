"""What it means where a trainer ends by itself and has said neither that it finished nor why it failed."""

ENDED_ITSELF = 0
SUPERVISOR_GONE = 70  # its control pipe ended
CRASHED = 71  # by what may not come again: a killed command, a crash of the code around it
MISUNDERSTOOD = 72  # it cannot read what its supervisor says
CANNOT_SPEAK = 73  # it can say nothing more: its own code closed the pipe, say

MEANING = {
    ENDED_ITSELF: "its code ended the process before the training was done, as os._exit(0) does: "
    "return from the code, or raise an exception that says what is wrong",
    SUPERVISOR_GONE: "the pipe from its supervisor was closed, as at the supervisor's end",
    CRASHED: "its log says why",
    MISUNDERSTOOD: "it could not read a message of its supervisor: the log says which; "
    "both must be of the same version of Heimdall",
    CANNOT_SPEAK: "it could not send messages to its supervisor any more: code that closes files "
    "which it has not opened, as os.closerange() does, closes this pipe too",
}
