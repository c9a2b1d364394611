"""What `muster doctor` looks at: a machine, its links, Slurm, disks and services; and the site file that follows."""
