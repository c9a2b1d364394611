"""The process that writes a rank's checkpoints beside the training: does the jobs it is sent, and answers.

It is a fresh interpreter without torch, and ends with its rank: the kernel sees to that, and the rank's end of the
connection on standard input closes.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from train.checkpoint.jobs import Answer, Job
from train.node.env import read_own_pulse
from train.node.process import die_with_parent, set_process_name
from train.pulse import PULSE

NICENESS = 5
"""Where cores are short the training comes first, but not so far that it would wait for its next save."""


def main() -> int:
    """Serve until the rank closes the connection."""
    die_with_parent()
    set_process_name("checkpoints")
    os.nice(NICENESS)
    pulse = read_own_pulse(os.environ)
    if pulse is not None:
        PULSE.attach(pulse, beside=True)
    with Connection(0) as connection:
        while True:
            try:
                job: Job = connection.recv()
            except EOFError:
                return 0
            connection.send(answer(job))


def answer(job: Job) -> Answer:
    """Do a job; an error of the file system is an answer too."""
    try:
        return job.run()
    except OSError as error:
        return Answer(error=error.strerror or str(error))
