"""The doctor's parts: links, places, access, services, and site files that compose whatever the site."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from launcher.compose.compose import compose
from launcher.doctor import links, services, site_file, storage
from launcher.doctor.bench import findings
from launcher.doctor.site import Site, examine_slurm, gpus
from slurm.access import Access, read_access
from slurm.limits import Association, Bounds, Limits
from slurm.parse import Partition
from slurm.policy import Policy, Preemption, PreemptMode

TOPOLOGY = """\
\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNV18\tNV18\tPXB\tSYS\t0-47\t0\t\tN/A
GPU1\tNV18\t X \tSYS\tNODE\tSYS\t0-47\t0\t\tN/A
GPU2\tNV18\tSYS\t X \tSYS\tPXB\t48-95\t1\t\tN/A
NIC0\tPXB\tNODE\tSYS\t X \tSYS

Legend:
  X    = Self
"""


def test_what_lies_between_gpus() -> None:
    found = links.gpu_links(TOPOLOGY)
    assert found == {(0, 1): "NV18", (0, 2): "NV18", (1, 2): "SYS"}
    assert links.link_words(found) == "2 pairs NV18 (NVLink), 1 pairs SYS (across sockets)"
    assert links.link_words({(0, 1): "NV4"}) == "NV4 (NVLink) between all GPUs"
    assert links.gpu_links("") == {}
    assert links.gpu_links("\tGPU0\tCPU Affinity\nGPU0\t X \t0-47\n") == {}


def test_adapters_and_interfaces(tmp_path: Path) -> None:
    port = tmp_path / "infiniband" / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    for name, text in {"rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand", "state": "4: ACTIVE"}.items():
        (port / name).write_text(text + "\n")
    (found,) = links.adapters(tmp_path / "infiniband")
    assert found == links.Adapter("mlx5_0", "400 Gb/sec (4X NDR)", "InfiniBand", True)
    assert found.gbps == 400
    for name, state, speed in (
        ("eth0", "up", "10000"),
        ("ib0", "down", "1"),
        ("docker0", "up", "1"),
        ("hsn0", "up", "-1"),
    ):
        (tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "operstate").write_text(state + "\n")
        (tmp_path / "net" / name / "speed").write_text(speed + "\n")
    assert links.interfaces(tmp_path / "net") == [links.Interface("eth0", 10000), links.Interface("hsn0", None)]
    assert links.adapters(tmp_path / "nothing") == []


MOUNTS = "/dev/sda1 / ext4 rw 0 0\nfiler:/home /home nfs4 rw 0 0\nx /home/my\\040own tmpfs rw 0 0\n"


@pytest.mark.parametrize(
    ("folder", "kind", "shared"),
    [("/home/ada/runs", "nfs4", True), ("/home/my own/a", "tmpfs", False), ("/homes", "ext4", False)],
)
def test_where_a_folder_lies(folder: str, kind: str, shared: bool) -> None:
    place = storage.place_of(Path(folder), MOUNTS)
    assert (place.kind, place.shared) == (kind, shared)


def test_who_may_use_a_partition() -> None:
    shown = (
        "PartitionName=open AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL\n"
        "PartitionName=lab AllowGroups=ALL AllowAccounts=Lab,other AllowQos=ALL\n"
        "PartitionName=not DenyAccounts=lab AllowGroups=ALL\n"
        "PartitionName=few AllowGroups=chosen AllowAccounts=ALL\n"
    )
    access = read_access(shown)
    assert {name: one.allows(["lab"], ["users"]) for name, one in access.items()} == {
        "open": True,
        "lab": True,
        "not": False,
        "few": False,
    }
    assert access["lab"].allows([], ["users"])
    assert not access["lab"].allows(["mine"], ["users"])


class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """A server that answers, one that never does, a port with nobody."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as silent, socket.socket() as gone:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        gone.bind(("127.0.0.1", 0))
        ports = {"answers": server.server_port, "silent": silent.getsockname()[1], "gone": gone.getsockname()[1]}
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    server.shutdown()


def test_services_answer_or_are_said_not_to(addresses: dict[str, str]) -> None:
    found = services.reach([*addresses.values(), "ftp://x"], timeout_s=0.5)
    assert found[addresses["answers"]] == ""
    assert found[addresses["silent"]] == "does not answer within 0.5 s"
    assert found[addresses["gone"]].startswith("cannot be reached: ")
    assert found["ftp://x"] == "is not an address"


def partition(name: str = "main", gres: str = "", limit: int | None = 3600, default: bool = False) -> Partition:
    return Partition(name, default, True, 4, None, limit, 96, 1_000_000, gres)


def site(*partitions: Partition, **more: object) -> Site:
    values = {"limits": None, "policy": Policy(), "access": {}, **more}
    return Site(slurm_conf=None, version="23.11.4", partitions=partitions, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:h100:8(S:0-1)", {"h100": 8}),
        ("gpu:2", {"": 2}),
        ("gpu:a100:4,nvme:1", {"a100": 4}),
        ("", {}),
        ("gpu:a100:4,gpu:h100:8", {"a100": 4, "h100": 8}),
    ],
)
def test_gpus_of_a_partition(gres: str, expected: dict[str, int]) -> None:
    assert gpus(partition(gres=gres)) == expected


def test_a_site_file_asks_for_whole_gpus_where_there_are_slices_too() -> None:
    place = storage.Place(Path("/shared/python"), "/shared", "lustre", None)
    found = site(partition("gpu", "gpu:h100:8,gpu:h100_1g.10gb:56"))
    written = site_file.site_file(found, site_file.Here(place, place), "on x")
    assert "\ngres: 'gpu:h100:8'" in written
    assert "\ngpus_per_node: 8" in written
    slices = site_file.site_file(site(partition("gpu", "gpu:h100_1g.10gb:56")), site_file.Here(place, place), "on x")
    assert "\ngpus_per_node: 56" in slices


def test_the_partition_to_begin_with() -> None:
    spot = Policy(preemptions={"spot": Preemption(PreemptMode.cancel, 60)})
    cpu, gpu = partition("cpu", default=True), partition("gpu", "gpu:8")
    cheap, closed = partition("spot", "gpu:8"), partition("closed", "gpu:8")
    found = site(cpu, cheap, gpu, closed, policy=spot, access={"closed": Access(groups=frozenset({"nobody-here"}))})
    assert found.chosen == gpu
    assert site(cpu, cheap, policy=spot).chosen == cheap
    assert site().chosen is None


def test_preemption_by_a_qos_that_is_not_known_is_said() -> None:
    found = site(partition("gpu", "gpu:8"), policy=Policy(preemptions={"gpu": Preemption(PreemptMode.cancel, None)}))
    (line,) = [one for one in examine_slurm(found) if one.topic == "partition gpu"]
    assert "may be preempted (cancelled): their QOS decides" in line.found
    place = storage.Place(Path("/shared/python"), "/shared", "lustre", None)
    assert "a chain of jobs" in site_file.site_file(found, site_file.Here(place, place), "on x")


LIMITS = Limits(
    "lab", (Association("lab", "", ("normal", "short"), Bounds()),), {"normal": Bounds(), "short": Bounds(wall="10:00")}
)
names = some.text(some.characters(categories=["L", "N"], include_characters="-_.:#{}'\" "), min_size=1, max_size=12)


@given(
    name=names,
    account=names,
    gres=some.sampled_from(["", "gpu:8", "gpu:h100:8", "gpu:a100:4,gpu:h100:8"]),
    limit=some.sampled_from([None, 600, 90_000]),
    python=names,
    measured=some.sampled_from([None, {"inter_node_gbps": 3.14159, "intra_node_gbps": 3600.0}]),
)
@settings(max_examples=40, deadline=None)
def test_every_site_file_is_yaml_and_keeps_its_values(
    name: str, account: str, gres: str, limit: int | None, python: str, measured: dict[str, float] | None
) -> None:
    limits = Limits(account, (Association(account, "", ("normal",), Bounds()),), {})
    here = site_file.Here(
        storage.Place(Path("/shared") / python, "/shared", "nfs4", None),
        storage.Place(Path("/home/x"), "/", "ext4", 1),
        measured=measured,
    )
    text = site_file.site_file(site(partition(name, gres, limit), limits=limits), here, "on x")
    found = yaml.safe_load(text)
    assert (found["partition"], found["account"], found["python"]) == (name, account, str(Path("/shared") / python))
    assert found["gpus_per_node"] == (8 if gres else 0)
    assert found["time"] == {None: "1-00:00:00", 600: "00:10:00", 90_000: "1-00:00:00"}[limit]
    assert ("inter_node_gbps" in found) == (measured is not None)
    assert not [line for line in text.splitlines() if line and not line.startswith("#") and ":" not in line]


@pytest.mark.parametrize("gres", ["", "gpu:h100:8(S:0-1)", "gpu:a100:4,gpu:h100:8"])
def test_a_site_file_composes(gres: str, tmp_path: Path) -> None:
    place = storage.Place(Path("/shared/venv/bin/python"), "/shared", "lustre", None)
    rules = Policy(requeues=False)
    one = site(
        partition("gpu", gres, 7 * 86_400, True), limits=LIMITS, policy=rules, containers=("pyxis",), modules=True
    )
    text = site_file.site_file(one, site_file.Here(place, place), "on login1")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "found.yaml").write_text(text)
    # Also with every example that stands there as a comment.
    filled = [line.removeprefix("# ") if line.startswith("# ") and line[2:].split(":")[0].isidentifier() else line
              for line in text.splitlines() if "run_root" not in line]  # fmt: skip
    (tmp_path / "cluster" / "filled.yaml").write_text("\n".join(filled))
    config = compose(["experiment=demo", "cluster=found"], str(tmp_path))
    assert config.cluster.account == "lab"
    assert config.cluster.time == "1-00:00:00"
    assert "a chain of jobs" in text
    filled_in = compose(["experiment=demo", "cluster=filled"], str(tmp_path))
    assert filled_in.cluster.qos == "normal"
    assert filled_in.cluster.inter_node_gbps == 400


def test_figures_name_their_key() -> None:
    by_topic = {one.topic: one for one in findings({"inter_node_gbps": 187.25, "memory_gb_s": 2000.0})}
    assert by_topic["all-gather between nodes"].follows == "cluster.inter_node_gbps=187.2 in the site's file"
    assert not by_topic["memory of the device"].follows


def test_a_password_in_an_address_is_neither_shown_nor_sent() -> None:
    address = "https://me:canary@wandb.example.invalid:nowhere/api"
    assert services.without_user(address) == "https://wandb.example.invalid:nowhere/api"
    (problem,) = services.reach([address], timeout_s=0.5).values()
    assert problem
    assert "canary" not in problem
