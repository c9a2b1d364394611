"""Which option a refusal of sbatch or srun is about: from Slurm's own words to the option's name."""

from __future__ import annotations

import re

SUBMIT_LIMIT = "jobs"
"""No option: an account or a QOS has as many jobs as it may, whatever they ask for."""

_LIMIT = re.compile(r"\b((?:Assoc|QOS)(?:Max|Min|Grp)\w+)")
"""Which limit of an account or a QOS a job breaks, in one word of Slurm's: `QOSMaxWallDurationPerJobLimit`."""

_LIMITED = (
    ("Submit", SUBMIT_LIMIT),
    ("Wall", "time"),
    ("GRES", "gres"),
    ("Node", "nodes"),
    ("Cpu", "cpus-per-task"),
    ("Mem", "mem"),
)

_WORDS = (
    (r"unrecognized option '--([a-z0-9-]+)", None),
    (r"option '--([a-z0-9-]+)' (?:requires|doesn't allow)", None),
    (r"ambiguous option: '?--([a-z0-9-]+)", None),
    (r"[Ii]nvalid (?:--)?([a-z]+(?:-[a-z]+)*) specification:", None),
    (r"[Ii]nvalid --([a-z0-9-]+) (?:specification|argument|value)", None),
    (r"[Ii]nvalid partition|[Pp]artition .*(?:not valid|does not exist)|partition name", "partition"),
    (r"[Ii]nvalid account", "account"),
    (r"[Ii]nvalid qos|QOS .* not permitted", "qos"),
    (r"time limit|--time|TimeLimit", "time"),
    (r"[Rr]eservation", "reservation"),
    (r"[Ii]nvalid feature|[Cc]onstraint", "constraint"),
    (r"generic resource \(gres\)|[Ii]nvalid gres|gres ", "gres"),
    (r"[Ii]nvalid GRES|gpus-per-node|gpus per node", "gpus-per-node"),
    (r"[Mm]emory (?:specification|limit)|--mem\b|memory", "mem"),
    (r"CPU count per node|CPU count|cpus-per-task|processors", "cpus-per-task"),
    (r"[Nn]ode count specification|number of nodes|[Nn]ode limit|more nodes", "nodes"),
    (r"[Ii]nvalid node name|nodelist|node list", "nodelist"),
    (r"[Dd]ependency", "dependency"),
    (r"[Ll]icense", "licenses"),
    (r"[Ii]nvalid job array", "array"),
    (r"[Ii]nvalid wckey", "wckey"),
    (r"[Cc]luster name|[Ii]nvalid cluster", "clusters"),
    (r"--signal|[Ii]nvalid signal", "signal"),
)


def culprit(stderr: str) -> str | None:
    """The sbatch option, by its long name, that a refusal is about; None where Slurm's words do not tell.

    `SUBMIT_LIMIT` where it is about the number of jobs.
    """
    limit = broken_limit(stderr)
    if limit is not None:
        return next((option for word, option in _LIMITED if word in limit), None)
    for pattern, option in _WORDS:
        found = re.search(pattern, stderr)
        if found:
            return option or found[1]
    return None


def broken_limit(stderr: str) -> str | None:
    """Slurm's word for the limit of an account or a QOS that a refusal is about; None where it is about none."""
    found = _LIMIT.search(stderr)
    return found[1] if found else None
