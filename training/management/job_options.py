"""What each verb of `manage.py job` takes."""

from __future__ import annotations

from argparse import ArgumentTypeError

from django.core.management.base import CommandParser

from training import services
from training.lifecycle import JobType, Status, StopAt, Verb
from training.management import config_options, program_options
from training.management.base import number_from_0, whole, whole_from_1
from training.presentation.filters import FILTERS
from training.services.forks import CARRIES, TRAINING


def of_submit(parser: CommandParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="+", help="the recipe; with --program and behind --: the command"
    )
    parser.add_argument(
        "--name", default="", help="what to call the job (default: the recipe or the command)"
    )
    program_options.add_to(parser)
    config_options.add_to(parser)
    parser.add_argument("--description", default="")
    parser.add_argument("--priority", type=int, default=0, help="-100 to 100, higher goes first")
    parser.add_argument("--pool", default="", help="only nodes of this pool take it (default: any node)")
    parser.add_argument("--team", help="a group whose members may help run the job")
    parser.add_argument(
        "--tag", dest="tags", metavar="TAG", action="append", default=[], help="may be given again"
    )
    of_waiting(parser, optional=True)


def of_list(parser: CommandParser) -> None:
    parser.add_argument(
        "--status", action="append", choices=[str(status) for status in Status], help="may be given again"
    )
    parser.add_argument("--job-type", choices=[str(kind) for kind in JobType])
    for name in ("recipe", "owner", "team", "search"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--parent", type=whole, metavar="ID")
    parser.add_argument(
        "--ordering",
        type=ordering,
        default="-id",
        metavar="FIELD",
        help="a minus turns it around: --ordering=-priority",
    )
    parser.add_argument("--limit", type=whole_from_1, default=50, metavar="N", help="at most so many (50)")


def ordering(text: str) -> str:
    """As the lists of the other doors take it: a field, or a column such as lowest.val_rmse."""
    (takes,) = (param for param in FILTERS if param.name == "ordering")
    try:
        return takes.read([text])
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def of_edit(parser: CommandParser) -> None:
    job_number(parser)
    parser.add_argument("--name", dest="job_name")
    parser.add_argument("--description")
    parser.add_argument("--priority", type=int, help="-100 to 100, higher goes first")
    parser.add_argument("--pool", help="only nodes of this pool take it; an empty one: any node")
    tags = parser.add_mutually_exclusive_group()
    tags.add_argument(
        "--tag", dest="tags", metavar="TAG", action="append", help="the new tags; may be given again"
    )
    tags.add_argument("--no-tags", action="store_true", help="take all tags away")


def of_asking(parser: CommandParser, verb: Verb) -> None:
    _which(parser)
    if verb == Verb.PAUSE:
        moments = [StopAt.EPOCH.value, StopAt.STEP.value]
        parser.add_argument(
            "--at",
            choices=moments,
            default=StopAt.EPOCH.value,
            help="at the end of the epoch (default), or after the step under way",
        )
    if verb == Verb.RESUME:
        older = "its number: go back to this older one of the job"
        parser.add_argument("--checkpoint", type=whole, metavar="CHECKPOINT", help=older)
    if verb != Verb.DELETE:
        of_waiting(parser, optional=True)


def of_copy(parser: CommandParser, *, carry: bool) -> None:
    """What is left out is as the other job has it, but for what people say of it."""
    job_number(parser)
    if carry:
        parser.add_argument("--checkpoint", type=whole, help="its number (default: the newest good one)")
        parser.add_argument(
            "--carry",
            choices=CARRIES,
            default=TRAINING,
            help="training: everything goes on (default); weights: they and the recipe's own parts, from step 0",
        )
    parser.add_argument("--name", help="what to call the new job")
    config_options.add_to(parser)
    parser.add_argument("--description")
    parser.add_argument("--priority", type=int, help="-100 to 100, higher goes first")
    parser.add_argument("--pool", help="only nodes of this pool take it")
    parser.add_argument("--team", help="a group whose members may help run the job")
    parser.add_argument("--tag", dest="tags", metavar="TAG", action="append", help="may be given again")
    of_waiting(parser, optional=True)


def of_extend(parser: CommandParser) -> None:
    job_number(parser)
    more = parser.add_mutually_exclusive_group(required=True)
    more.add_argument("--epochs", type=whole, metavar="N", help="how many more, of a completed training")
    more.add_argument("--samples", type=whole, metavar="N", help="how many more, of a dataset")
    of_waiting(parser, optional=True)


def of_check(parser: CommandParser) -> None:
    job_number(parser)
    parser.add_argument("--steps", type=whole, default=30, metavar="N", help="how many are trained (30)")
    of_waiting(parser, optional=True)


def of_logs(parser: CommandParser) -> None:
    job_number(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job is at rest")
    parser.add_argument(
        "--after", type=whole, default=0, metavar="CHUNK", help="only what follows this piece"
    )


def of_waiting(parser: CommandParser, *, optional: bool) -> None:
    if optional:
        parser.add_argument(
            "--wait", action="store_true", help="wait until the job is at rest, and show its progress"
        )
    parser.add_argument(
        "--timeout", type=number_from_0, metavar="SECONDS", help="wait no longer than this (exit code 124)"
    )


def job_number(parser: CommandParser) -> None:
    parser.add_argument("id", metavar="ID", type=whole)


def _which(parser: CommandParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", metavar="ID", type=whole, nargs="*", default=[])
    which.add_argument(
        "--matching",
        metavar="QUERY",
        help="jobs as the list's address has them, such as 'status=queued&tags=nightly', the first "
        f"{services.MOST_AT_ONCE}",
    )
