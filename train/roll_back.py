"""Going back to a checkpoint from before the numbers went wrong, and on with the documents after the trouble.

Step numbers never go back, so that the order of documents, the schedule and every curve stay as they are: the updates
since the checkpoint are lost, as that of a step that is left out. All ranks come here by the same numbers.
"""

from __future__ import annotations

from train.checkpoint import checkpoint
from train.checkpoint.saving import save, wait
from train.numbers import Numbers, RollBack
from train.reload import reload
from train.training import Training


def roll_back(training: Training, step: int, trouble: int) -> RollBack | None:
    """Put the newest checkpoint from before step `trouble` into the engine, after `step`; a collective.

    What is remembered of it is saved at once, under `step`: a resume goes on from there. None, and nothing is changed,
    where no such checkpoint verifies.

    Raises:
        OSError: the file system fails while it is loaded.
    """
    wait(training)
    progress, journal = training.progress, training.journal
    info = checkpoint.newest_of(
        training.folder, training.world, journal.warning, lambda saved: progress.numbers.is_before(saved, trouble)
    )
    if info is None:
        return None
    state = reload(training, info)
    done = RollBack(step, info.step)
    progress.numbers.rolled_back.append(done)
    progress.numbers.losses = Numbers.of_state(state.get("numbers")).losses
    progress.numbers.jumps = 0
    training.engine.train()
    training.window.begin()
    journal.metrics(step, {"health/roll_backs": len(progress.numbers.rolled_back)})
    save(training)
    training.stop.asked_now()  # a stop that came meanwhile is heard before the next step, and this was no step's time
    journal.phase("train", step, training.total_steps, "steps")
    return done
