"""A real Slurm on this machine, of Debian's packages: several nodes, each with its own host name and network."""

from slurm.devcluster.cluster import down, find, status, up
from slurm.devcluster.record import INTERFACE, DevclusterError, Record, Status, default_folder

__all__ = ["INTERFACE", "DevclusterError", "Record", "Status", "default_folder", "down", "find", "status", "up"]
