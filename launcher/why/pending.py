"""What a person can change about a job that waits: Slurm's reason to the keys behind it. Data alone."""

from __future__ import annotations

import re

_CHANGES = (
    (r"^(Priority|Resources)$", "fewer nodes or a shorter `cluster.time` start sooner; `sprio`, `sinfo` show the rest"),
    (r"^Dependency$", "it starts after the job that prepares its data: `muster status`"),
    (
        r"^DependencyNeverSatisfied$",
        "the job before it failed: see its attempt below, then `muster cancel` and `resume`",
    ),
    (r"^BeginTime$", "nothing: a requeued job waits about two minutes"),
    (r"^JobHeldUser$|requeued held|^JobHoldMaxRequeue$", "`scontrol release JOB` lets it go on"),
    (r"^JobHeldAdmin$", "ask the site: only an administrator can release it"),
    (r"^PartitionTimeLimit$", "a shorter `cluster.time`, or another `cluster.partition`"),
    (r"^PartitionNodeLimit$", "fewer `cluster.nodes`, or another `cluster.partition`"),
    (r"^(PartitionDown|PartitionInactive)$", "another `cluster.partition`, or wait for the site"),
    (r"^(ReqNodeNotAvail|NodeDown)", "without `cluster.nodelist`, or fewer `cluster.exclude`; else wait for the site"),
    (r"^(BadConstraints|Constraints)", "another `cluster.constraint`, `cluster.gres` or `cluster.mem`"),
    (r"^Reservation", "`scontrol show reservation` says when; without `cluster.reservation` it need not wait"),
    (r"^(InvalidAccount|InvalidQOS)", "another `cluster.account` or `cluster.qos`: `sacctmgr show assoc user=$USER`"),
    (
        r"^(Assoc|QOS).*(Time|TRESRunMins|Minutes|BillingMins)",
        "the time you may use is spent: another account, or wait",
    ),
    (
        r"^(Assoc|Association|QOS)",
        "wait for your own jobs, or fewer nodes: `sacctmgr show assoc user=$USER` has the limits",
    ),
    (r"^JobArrayTaskLimit$", "`sweep.max_parallel` holds it back"),
    (r"^Licenses$", "wait for a license: `scontrol show licenses`"),
    (r"^JobLaunchFailure$", "the nodes could not start it; ask the site, then `muster cancel` and `resume`"),
)


def advice_on(reason: str) -> str:
    """What helps a job with this reason of squeue's; empty where nothing is known of it."""
    word = reason.strip("() ").split(",")[0]
    return next((text for pattern, text in _CHANGES if re.search(pattern, word)), "")
