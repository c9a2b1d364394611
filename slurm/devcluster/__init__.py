"""A real Slurm on this machine, of Debian's packages: several nodes, each with its own host name and network."""

from slurm.devcluster.cluster import down, find, status, up
from slurm.devcluster.faults import cut_link, kill_node, mend_link, restore_node, unplug
from slurm.devcluster.profiles import PROFILES, Profile
from slurm.devcluster.record import INTERFACE, DevclusterError, Record, Status, default_folder

__all__ = [
    "INTERFACE",
    "PROFILES",
    "DevclusterError",
    "Profile",
    "Record",
    "Status",
    "cut_link",
    "default_folder",
    "down",
    "find",
    "kill_node",
    "mend_link",
    "restore_node",
    "status",
    "unplug",
    "up",
]
