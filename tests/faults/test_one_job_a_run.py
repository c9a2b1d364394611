"""Row 20: two jobs on one run, and a lock that nobody holds any more."""

from __future__ import annotations

import pytest

from tests.slurm.live import ENDLESS, ONE_NODE, cancel, metrics, outcome, submit, wait_for, wait_for_end, wait_for_step
from tests.slurm.person import Person

pytestmark = [pytest.mark.faults, pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.mark.fault(20)
def test_the_second_refuses_and_a_stale_lock_is_broken(person: Person) -> None:
    """The same script sent twice by hand: the second job fails with the first one's number, the run goes on."""
    folder, run_id = submit(person, person.home, *ONE_NODE, ENDLESS, "name=twice", "cluster.continuation=requeue")
    wait_for_step(folder, 1)
    refused = person.run(*person.program, "resume", run_id, check=False)
    assert refused.returncode == 1
    assert "is running already" in refused.stderr

    settings = folder.job.settings.read_text()
    folder.job.settings.write_text(f"{settings}lock_patience=1\n")  # instead of a minute
    second = person.run("sbatch", "--parsable", str(folder.job_sbatch)).stdout.strip()
    said = folder.path / f"slurm-{second}.log"
    wait_for(lambda: said.exists() and "holds the run" in said.read_text(), folder, "a refusal")
    holder = folder.lock.read_text().strip()
    assert f"{holder} holds the run (LOCK); one job at a time" in said.read_text()
    assert holder != f"slurm:{second}"
    step = metrics(folder)[-1]["step"]
    wait_for_step(folder, step + 2)
    assert [path.name for path in folder.attempts.iterdir()] == ["0"]

    person.muster("stop", run_id)
    wait_for_end(folder, "stopped")
    wait_for(lambda: not folder.lock.exists(), folder, "the lock's end", after_end=True)
    person.run("bash", "-c", f"echo slurm:999999 >'{folder.lock}'")
    person.muster("resume", run_id)
    wait_for_step(folder, outcome(folder)["step"] + 1, attempt=1)
    assert folder.lock.read_text() != "slurm:999999\n"
    cancel(person, folder)
