"""The command ``vertebra``: which verbs there are, and how an error becomes one line and an exit code.

Every verb is named by an import string and imported when it is called, so that ``vertebra --help`` is quick.
A command is one function in ``flows/commands/<verb>.py``. It takes its arguments, calls what does the work, prints,
and returns an exit code or None:

    0  done
    1  done, with failures listed
    2  wrong use
    3  could not run
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from types import FrameType

from cyclopts import App, CycloptsError

from vertebra_core.errors import VertebraError, WrongUse

DONE, DONE_WITH_FAILURES, WRONG_USE, COULD_NOT_RUN = range(4)

DEBUG_VARIABLE = "VERTEBRA_DEBUG"
"""Set to 1 to see the traceback behind a one-line error."""

VERBS = {
    "demo": "The whole job on synthetic patients: DICOM in, tables, prevalence, report and pictures out.",
    "inventory": "What is in an archive and what screening would do with it; nothing is measured.",
    "screen": "Screen an archive into a cohort; resumable; publishes a snapshot at the end.",
    "serve": "Run scheduled nights on this machine: Prefect's server, the deployments of prefect.yaml, a worker.",
    "retry": "Let the next run try again what was given up, by reason or by study.",
    "status": "Where a cohort stands: studies by outcome, the run under way, sentinels, runs, the newest snapshot.",
    "runs": "Past runs of a cohort; one of them in detail: shards, slowest studies, failures, what changed.",
    "sentinel": "Studies that every run measures again, to notice when heights drift.",
    "tables": "Where the published Parquet is, with row counts and the dictionary.",
    "prevalence": "Prevalence of vertebral fractures with confidence intervals.",
    "explain": "From a number of prevalence to its studies and pictures, and the SQL that finds them.",
    "noise": "Measure the noise of the heights from two cohorts of the same patients, to correct prevalence for it.",
    "report": "One offline HTML page about a cohort: prevalence, figures, quality, pictures, methods.",
    "show": "Draw one study: the straightened slice with keypoints, heights and grades.",
    "evaluate": "Compare a cohort with readers' keypoints: the paper's Tables 1 and 2.",
    "compare": "What differs between two cohorts, snapshots or versions of the networks.",
    "readers": "Agreement among readers who marked the same CTs, from their keypoints alone.",
    "crossval": "Repeat the paper's five-fold cross-validation from DICOM and readers' keypoints.",
    "phantom": "Write synthetic patients with exact truth as a DICOM archive.",
    "worker": "Start workers for a Dask scheduler that runs already.",
    "forget": "Take a patient out of a cohort: results, pictures, log lines and links.",
    "doctor": "Check decoders, networks, devices and storage, and print the settings in force.",
}
"""What ``vertebra --help`` says of each verb; ``flows.commands.<verb>:<verb>`` is its function."""


def build_app(called: str | None = None) -> App:
    """The application with all its verbs, none of them imported yet; the one that is called speaks for itself."""
    app = App(
        name="vertebra",
        help="Screens CT archives for vertebral fractures: six keypoints, three heights and the Genant index of every "
        "vertebra.",
        help_epilogue="Start with: vertebra demo",
        version=lambda: metadata.version("vertebra"),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for verb, sentence in VERBS.items():
        app.command(f"flows.commands.{verb}:{verb}", name=verb, help=None if verb == called else sentence)
    train = App(name="train", help="Train the networks; goes on from its last checkpoint.")
    train.command("flows.commands.train:curve", name="curve")
    train.command("flows.commands.train:keypoints", name="keypoints")
    train.command("flows.commands.train:levels", name="levels")
    app.command(train)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the one place where an exception becomes a line on stderr and an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get(DEBUG_VARIABLE) == "1"
    if "--debug" in words:
        words.remove("--debug")
        debug = True
    open_standard_streams()
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        return build_app(next(iter(words), None))(words, exit_on_error=False, print_error=False) or DONE
    except BrokenPipeError:  # the reader of our output (head, less) has left; nothing to tell, nobody to tell it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        message, code = explain(error)
        print(f"vertebra: {message}", file=sys.stderr)
        return code
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # a caller in the same process stops in its own way


def open_standard_streams() -> None:
    """Give a program that was started without input, output or errors such that lead nowhere.

    Otherwise the next files to be opened would take their numbers, and be written over.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def interrupt(number: int, frame: FrameType | None) -> None:
    """A supervisor's stop (SIGTERM) winds up like Ctrl-C."""
    raise KeyboardInterrupt


def explain(error: BaseException) -> tuple[str, int]:
    """One line for a person, and the exit code.

    Examples
    --------
    >>> explain(WrongUse("no such folder: scans"))
    ('no such folder: scans', 2)
    """
    match error:
        case WrongUse() | CycloptsError():
            return one_line(str(error)), WRONG_USE
        case VertebraError():
            return one_line(str(error)), COULD_NOT_RUN
        case KeyboardInterrupt():
            return "stopped; the same command goes on where it was", COULD_NOT_RUN
        case OSError(strerror=str(reason), filename=name):
            return f"{name}: {reason}" if name else reason, COULD_NOT_RUN
    return f"unforeseen {type(error).__name__}: {one_line(str(error))} (--debug shows where)", COULD_NOT_RUN


def one_line(text: str) -> str:
    """The text without line breaks and runs of spaces."""
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
