"""The command line: `borderless COMMAND`. Prints the help, calls the command, turns errors into an exit code.

Imports when asked: PyTorch takes seconds, which nobody waits for to read a help text.
"""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from borderless.cli.commands.run import list_experiments
from borderless.cli.options import UsageError
from borderless.runtime.did_you_mean import unknown
from borderless.runtime.malloc import keep_freed_memory
from borderless.version import __version__

HELP = """\
borderless: does a CNN use absolute position? And the same network without that ability.

Usage: borderless COMMAND [options]

  demo           the story in small, on one page: two minutes, no download
  audit NAME     does this network use position? how far from the border, how much, at what price? one page
  finetune NAME  a pretrained network under another border, trained further on your images, audited before and after
  explain NAME   a network layer by layer under a border: sizes, cost, and what reads position
  run NAME       one experiment in full: its numbers, figures and page
  tiling NAME    can the network run on tiles of a large image, how must they be cut, what does it cost?
  tile NETWORK IMAGE OUT
                 a large image, tile after tile, equal to the whole; a run that was killed resumes
  occlude NETWORK IMAGE
                 which parts of an image a prediction depends on: a picture
  playground     place objects by clicking, and watch; in the browser, on this machine

  --help         this text; after a command, its main options (--help-all: all of them)
  --version      the version

Experiments, in the order of the story:

{experiments}

Examples:

  borderless demo
  borderless audit tf_efficientnet_lite0 --count 16    (weights and photographs of packages: no download)
  borderless audit resnet50 --images PHOTOS
  borderless audit weights.pt --arch timm/resnet26 --images PHOTOS --fail-above 5
  borderless audit --compare runs/audit/resnet50 runs/audit/resnet18
  borderless finetune resnet50 --data PHOTOS --border infinite --phase adaptive --reach 1
  borderless explain timm/convnext_tiny --border infinite --phase adaptive --reach 1
  borderless run rook
  borderless run rook --seeds 2 --borders zero full --folder runs/rook-of-two
  borderless run quadrant --archs resnet18 timm/resnet26 --policies own infinite --data IMAGES
  borderless run quadrant --seeds 5 --engine ray
  torchrun --nproc-per-node 2 -m borderless run red-green
  borderless tiling timm/resnet26 --size 16384 16384 --tiles 256 512
  borderless occlude resnet50 cat.jpg --size 48 --stride 16
  borderless tile lraspp_mobilenet_v3_large slide.tif labels.png --values labels --weights default --memory 2GB

A run keeps each finished part: Ctrl-C stops it, the same command resumes it. Results are in runs/, one folder per run.
"""

# Each is a module of `cli.commands` with a function `execute(words)`, which returns an exit code or nothing.
COMMANDS = ("demo", "run", "explain", "tiling", "audit", "finetune", "tile", "occlude", "playground")

# What is wrong with the folder that files are written to, rather than with the program.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
_CLOSED_PIPE = 141  # how programs end whose reader has gone: neither done nor failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Its exit code: 0, 1 for a failed audit, 2 for an error to mend, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a replaced stdout may have none
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # names of files need not be text that a terminal can show
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(HELP.format(experiments=list_experiments()), end="")
        elif words[0] == "--version":
            print(f"borderless {__version__}")
        elif words[0] in COMMANDS:
            if words[0] != "tile":  # which is there to need little
                keep_freed_memory()
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return import_module(f"borderless.cli.commands.{words[0]}").execute(words[1:]) or 0
        else:
            raise UsageError(unknown("command", words[0], COMMANDS, "see borderless --help"))
    except UsageError as error:
        return _fail(error)
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt or 'stopped'}", file=sys.stderr)
        return 130
    except SystemExit as exit_:  # tyro has printed its help (0) or what is wrong with the options (2)
        return exit_.code if isinstance(exit_.code, int) else 2
    except Exception as error:
        from borderless.errors import BorderlessError

        if isinstance(error, BorderlessError):
            return _fail(error)
        if isinstance(error, BrokenPipeError):  # whoever read what is printed has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _CLOSED_PIPE
        if isinstance(error, OSError) and (need := _need_of_files(error)):
            where = "" if error.filename is None else f" at {error.filename}"
            return _fail(UsageError(f"Expected {need} but got {error.strerror!r}{where}."))
        raise
    return 0


def _need_of_files(error: OSError) -> str:
    """Return what would mend an error of the folder that files are in; "" if it is of something else."""
    if error.errno in _FULL:
        return "more room on the disk (nothing is lost, and the same command resumes)"
    if error.errno in _CLOSED and error.filename is not None:
        return "a file or folder that can be used"
    return ""


def _fail(error: Exception) -> int:
    print(f"borderless: {error}", file=sys.stderr)
    return 2


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print one line without the line in the source, which means nothing to whoever typed a command."""
    print(f"borderless: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
