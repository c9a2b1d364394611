"""docs/troubleshooting.md, made from the table of advice: `python -m launcher.why.page > docs/troubleshooting.md`."""

from __future__ import annotations

import textwrap
from itertools import groupby

from conf.outcome import Cause
from launcher.why.advice import ADVICE, Advice
from launcher.why.remedies import REMEDIES

HEAD = """\
# When a run fails

```bash
muster why RUN
```

says which rank on which host failed first, shows what proves it, tells the story of the attempts, and names the keys to
change with their present and better values. It reads the run folder alone, and asks Slurm where there is one: it
works for runs that wait, were refused or failed before their first step, and for the runs of others that you may read.
`--attempt N` looks at one attempt, `--json` is for scripts. `muster logs RUN --first-error` prints the raw log instead.

A rank that fails takes its peers down: what they say (`connection closed`, `timed out`) is never the cause while
another rank says more. Clocks of nodes that differ are compared by the moment at which all agents met.

Each failure belongs to a class. Whether a run goes on by itself depends on it, and on
[`cluster.continuation`](surviving.md#requeue-or-chain).

| class | what happened | by itself the run |
|---|---|---|
"""


def troubleshooting() -> str:
    """The whole page."""
    rows = [
        f"| [`{advice.cause.value}`](#{advice.cause.value}) | {advice.title} | {advice.again.value} |"
        for advice in ADVICE
    ]
    parts = [HEAD + "\n".join(rows) + "\n"]
    parts += [_section(cause, list(entries)) for cause, entries in groupby(ADVICE, key=lambda advice: advice.cause)]
    return "\n".join(parts)


def _section(cause: Cause, entries: list[Advice]) -> str:
    general = [advice for advice in entries if not advice.when]
    special = [advice for advice in entries if advice.when]
    lines = [f"## {cause.value}\n"]
    for index, advice in enumerate([*general, *special]):
        lines += [_filled(f"**{advice.title[0].upper()}{advice.title[1:]}.** {advice.meaning}") + "\n"]
        lines += [_filled(f"- {change}") for change in advice.change]
        keys = [REMEDIES[name].__doc__ for name in advice.remedies]
        computed = [(doc or "").strip().splitlines()[0].rstrip(".") for doc in keys]
        if computed:
            lines.append(_filled(f"- worked out for the run: {'; '.join(_lower(text) for text in computed)}"))
        lines += [] if index == len(entries) - 1 else [""]
    return "\n".join(lines) + "\n"


def _filled(text: str) -> str:
    hanging = "  " if text.startswith("- ") else ""
    return textwrap.fill(text, 120, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


def _lower(text: str) -> str:
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


if __name__ == "__main__":
    print(troubleshooting(), end="")
