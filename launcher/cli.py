"""`muster VERB …`: finds the verb, runs it, turns errors into exit codes. Imports a verb only when it is asked for.

Exit codes: 0 done, 2 the user's configuration, 3 the scheduler, 4 not found, 1 the rest.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

GROUPS = {
    "start": ("run", "plan", "data", "submit"),
    "read": ("status", "logs", "why", "report", "diff"),
    "steer": ("stop", "cancel", "resume", "reproduce", "sweep", "export", "evaluate", "serve", "push", "dashboard"),
    "site": ("doctor", "nodes", "devcluster"),
}
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)

EXAMPLES = """\
examples:
  muster run                       the demo: about a minute, no network, no GPU
  muster plan model=llama3.1-8b data.train_file=train.jsonl cluster=mysite
  muster submit model=llama3.1-8b data.train_file=train.jsonl cluster=mysite
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another encoding shows `?` for a letter it has not
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone; nothing is left to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return report(error)


def _dispatch(words: list[str]) -> int:
    if not words:
        print(help_text())
        return 2
    verb, rest = words[0], words[1:]
    if verb in ("-h", "--help", "help"):
        if rest and rest[0] in VERBS:
            return _run(rest[0], ["--help"])
        print(help_text())
        return 0
    if verb in ("-V", "--version", "version"):
        print(f"muster {version()}")
        return 0
    if verb in ("-sc", "--shell-completion"):
        from launcher.compose.hydra_main import hydra_flags

        return hydra_flags(words)
    if verb not in VERBS:
        print(unknown_text(verb), file=sys.stderr)
        return 2
    return _run(verb, rest)


def _run(verb: str, rest: list[str]) -> int:
    module = importlib.import_module(f"launcher.verbs.{verb}")
    return int(module.run(rest))


def version() -> str:
    """Version of the installed package."""
    from importlib import metadata

    try:
        return metadata.version("muster")
    except metadata.PackageNotFoundError:
        return "(not installed: run from a checkout)"


def help_text() -> str:
    """The first screen: verbs by what they are for, and three commands to copy."""
    lines = [
        "Muster fine-tunes large language models, on this machine or on a Slurm cluster.",
        "",
        "usage: muster VERB [flags] [key=value …]       muster VERB --help",
        "",
    ]
    for group, verbs in GROUPS.items():
        for index, verb in enumerate(verbs):
            module = importlib.import_module(f"launcher.verbs.{verb}")
            lines.append(f"  {group if index == 0 else '':<6} {verb:<11} {module.HELP}")
    lines += [
        "",
        EXAMPLES.rstrip(),
        "",
        "A RUN is a name, an id, a folder or a Slurm job id. --debug shows tracebacks.",
    ]
    return "\n".join(lines)


def unknown_text(verb: str) -> str:
    """What to say of a verb that does not exist, with the nearest one."""
    import difflib

    if "=" in verb or verb.startswith(("+", "~", "-")):
        return f"A verb comes first: muster run {verb} …\nVerbs: {', '.join(VERBS)}"
    nearest = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    hint = f"; nearest: {nearest[0]}" if nearest else ""
    return f"muster has no verb {verb!r}{hint}\nVerbs: {', '.join(VERBS)}"


def report(error: Exception) -> int:
    """Print an error for a person; its exit code."""
    from launcher.problems import MusterError
    from launcher.show.line import clean_lines

    said = clean_lines(str(error))
    if isinstance(error, MusterError):
        print(said, file=sys.stderr)
        return error.exit_code
    slurm = sys.modules.get("slurm.client")
    if slurm is not None and isinstance(error, slurm.SlurmError):
        print(f"Slurm: {said}", file=sys.stderr)
        return 3
    record = sys.modules.get("conf.record")
    if record is not None and isinstance(error, record.UnreadableError):
        print(said, file=sys.stderr)
        return 1
    print(f"{type(error).__name__}: {said}\n(--debug shows where)", file=sys.stderr)
    return 1
