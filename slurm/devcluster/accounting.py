"""The accounting of a devcluster: a MariaDB that only its owner reaches, slurmdbd over it, accounts and limits."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from slurm.commands import SlurmError, run_once
from slurm.devcluster import processes
from slurm.devcluster.config import CLUSTER
from slurm.devcluster.profiles import Profile
from slurm.devcluster.record import DevclusterError, Record

START_S = 60.0
TABLES = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
SOURCES = Path("/usr/share/mysql")
"""Where Debian's mariadb-server-core has the tables that every database server starts from."""

_SMALL = (
    "--no-defaults",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=4M",
    "--innodb-lock-wait-timeout=900",
)


def database_argv(folder: Path, user: str) -> list[str]:
    """mariadbd without a network and without passwords: its socket lies in a folder of mode 0700."""
    own = [f"--datadir={folder}/data", f"--user={user}", f"--socket={socket_of(folder)}", f"--pid-file={folder}/pid"]
    return ["mariadbd", *_SMALL, *own, "--skip-networking", "--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0"]


def socket_of(folder: Path) -> Path:
    return folder / "socket"


def make_database(folder: Path, user: str) -> None:
    """Make the files of an empty database server.

    Raises:
        DevclusterError: MariaDB cannot.
    """
    (folder / "data").mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    tables = "".join((SOURCES / name).read_text() for name in TABLES)
    argv = ["mariadbd", *_SMALL, "--bootstrap", f"--datadir={folder}/data", f"--user={user}"]
    made = subprocess.run(
        argv,
        input=f"create database mysql;\nuse mysql;\n{tables}",
        env={"PATH": processes.PATH},
        text=True,
        capture_output=True,
    )
    if made.returncode != 0:
        raise DevclusterError(f"MariaDB could not make its tables: {made.stderr.strip()[-500:]}")


def slurmdbd_conf(record: Record, user: str) -> str:
    """slurmdbd.conf: only munge users of this devcluster, no password, since the database has none."""
    folder = Path(record.folder)
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        f"DbdHost={record.controller_host}",
        f"DbdAddr={record.controller_address}",
        f"DbdPort={record.database_port}",
        f"SlurmUser={user}",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        f"StorageUser={user}",
        f"LogFile={folder}/log/slurmdbd.log",
        f"PidFile={folder}/run/slurmdbd.pid",
    ]
    return "\n".join(lines) + "\n"


def register(record: Record) -> None:
    """Make the cluster known to slurmdbd, as soon as it answers; then the controller may start.

    Raises:
        DevclusterError: it does not answer within `START_S`, or refuses.
    """
    deadline = time.monotonic() + START_S
    while True:
        try:
            run_once(["sacctmgr", "--noheader", "show", "cluster"], str(record.slurm_conf), 10)
            break
        except SlurmError as error:
            if time.monotonic() > deadline or not all(map(processes.lives, record.processes)):
                raise DevclusterError(f"slurmdbd: {error}; {processes.tail(record.log('slurmdbd'))}") from error
            time.sleep(0.2)
    _change(record, [("add", "cluster", CLUSTER)])


def write_accounts(record: Record, profile: Profile) -> None:
    """Make the accounts, QOS and limits of a profile; the controller has to have named its GPUs before.

    Raises:
        DevclusterError: slurmdbd refuses some.
    """
    _change(record, profile.accounts)


def join(record: Record, profile: Profile, user: str) -> None:
    """Let a user submit on a devcluster whose profile has accounts; may be repeated."""
    _change(record, [[word.format(user=user) for word in words] for words in profile.join])


def _change(record: Record, commands: Sequence[Sequence[str]]) -> None:
    for words in commands:
        try:
            run_once(["sacctmgr", "--immediate", *words], str(record.slurm_conf))
        except SlurmError as error:
            if "already exists" not in error.stderr and "Nothing new added" not in str(error):
                raise DevclusterError(f"sacctmgr {' '.join(words)}: {error}") from error
