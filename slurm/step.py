"""The command that starts one process a node: srun's arguments and container prefixes, as lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def srun_arguments(
    *,
    nodes: int,
    cpus_per_task: int | None = None,
    mem: str | None = None,
    gpus_per_node: int = 0,
    gres: str | None = None,
    cpu_bind: str = "none",
    image: str = "",
    mounts: Sequence[str] = (),
    container_env: Sequence[str] = (),
    extra: Mapping[str, str | bool] | None = None,
) -> list[str]:
    """Arguments of srun for the step of the ranks: one task a node, which owns all of the node's cores and GPUs.

    `--cpus-per-task` is given to srun itself, since a step does not inherit it since Slurm 22.05. `--kill-on-bad-exit`
    because Slurm leaves a job running when one of its tasks dies, `--propagate=NONE` because the limits of a login node
    are not those of the nodes. `cpu_bind` is `none` by default: the agent on the node binds each rank to the cores near
    its GPU. `image`, `mounts` and `container_env` are pyxis's.

    Raises:
        ValueError: a value cannot be an argument of one line, or a mount or name has a comma.
    """
    arguments = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    if cpus_per_task is not None:
        arguments.append(f"--cpus-per-task={cpus_per_task}")
    if mem is not None:
        arguments.append(f"--mem={mem}")
    if gres is not None:
        arguments.append(f"--gres={gres}")
    elif gpus_per_node > 0:
        arguments.append(f"--gpus-per-node={gpus_per_node}")
    arguments += [f"--cpu-bind={cpu_bind}", "--kill-on-bad-exit=1", "--propagate=NONE"]
    if image:
        arguments.append(f"--container-image={image}")
        if mounts:
            arguments.append(f"--container-mounts={_listed(mounts)}")
        if container_env:
            arguments.append(f"--container-env={_listed(container_env)}")
    for name, value in (extra or {}).items():
        arguments.append(f"--{name}" if value is True else f"--{name}={value}")
    return checked_lines(arguments)


def launch_prefix(*, image: str, mounts: Sequence[str] = (), gpus: bool = False) -> list[str]:
    """What stands before Python where ranks run in an apptainer image, which leaves the environment as it is.

    Raises:
        ValueError: a value cannot be an argument of one line, or a mount has a comma.
    """
    prefix = ["apptainer", "exec"]
    if gpus:
        prefix.append("--nv")
    for mount in mounts:
        prefix += ["--bind", _listed([mount])]
    return checked_lines([*prefix, image])


def checked_lines(arguments: Sequence[str]) -> list[str]:
    """`arguments`, each of which is one line of a file.

    Raises:
        ValueError: one of them has a line break or a NUL.
    """
    for argument in arguments:
        if any(letter in argument for letter in "\n\r\0"):
            raise ValueError(f"{argument!r} has a line break; an argument has to be one line")
    return list(arguments)


def _listed(values: Sequence[str]) -> str:
    for value in values:
        if "," in value:
            raise ValueError(f"{value!r} has a comma, which separates entries here")
    return ",".join(values)
