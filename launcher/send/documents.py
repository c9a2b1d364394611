"""The data step of a configuration, here and now, without a run: for `muster data`.

The documents come into the cache that runs of the same run root share, so that a run afterwards finds them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from conf.data_report import DataReport, read_data_report
from conf.layout import RunFolder
from conf.record import encode_plan
from launcher.send.proposal import Proposal


def prepare_documents(proposal: Proposal) -> DataReport | None:
    """The report on the data of a proposal; None where the data step failed, which it has said on standard error."""
    plan = proposal.plan
    config, python = plan.config, plan.config.cluster.python
    cache = config.data.cache_dir or str(Path(config.run_root, ".cache"))
    config = replace(config, data=replace(config.data, cache_dir=cache))
    with tempfile.TemporaryDirectory(prefix="muster-data-") as name:
        folder = RunFolder(Path(name))
        folder.run_json.write_text(encode_plan(replace(plan, config=config)))
        folder.muster_zip.parent.mkdir()
        folder.muster_zip.write_bytes(proposal.facts.code.muster)
        interpreter = python if python and Path(python).is_file() else sys.executable
        # What it does goes to standard error: the report is all there is on standard output.
        done = subprocess.run([interpreter, "-I", str(folder.muster_zip), "data", name], stdout=sys.stderr, check=False)
        return None if done.returncode else read_data_report(folder.data_report)
