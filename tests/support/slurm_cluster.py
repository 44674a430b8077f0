# SPDX-License-Identifier: Apache-2.0
"""A real Slurm on this machine: munged, slurmctld and slurmd of Debian's slurm-wlm, in a folder of their own.

Needs root and the packages ``slurm-wlm`` and ``munge``. ``python slurm_cluster.py FOLDER`` starts one and prints its
``SLURM_CONF``; it runs until the script is stopped.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_ARRAY_SIZE = 4  # so small that a few cells are more than one array


def missing() -> str:
    """Why no cluster can be started here; empty when one can."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return f"needs Slurm on this machine (apt-get install slurm-wlm munge): {', '.join(absent)} not found"
    return "" if os.geteuid() == 0 else "needs root, to start the daemons of Slurm"


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A running cluster of one node; yields the environment variables that its commands need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool", "log"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(_configuration(folder), encoding="utf-8")
    (folder / "cgroup.conf").write_text(_cgroups(), encoding="utf-8")
    environment = {"SLURM_CONF": str(conf)}
    daemons: list[subprocess.Popen[bytes]] = []
    commands = (
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}",
         f"--pid-file={folder}/munged.pid", f"--log-file={folder}/log/munged", f"--seed-file={folder}/munge.seed"],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", _host()],
    )  # fmt: skip
    try:
        for command in commands:
            with (folder / "log" / f"{command[0]}.out").open("wb") as log:
                daemons.append(
                    subprocess.Popen(
                        command, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True
                    )
                )
            time.sleep(0.5)
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env={**os.environ, **environment}, check=False, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def node() -> str:
    """The name of the one node."""
    return _host()


def _configuration(folder: Path) -> str:
    host = _host()
    settings = {
        "ClusterName": "voxelboard",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmUser": "root",
        "SlurmctldPort": _free_port(),
        "SlurmdPort": _free_port(),
        "AuthType": "auth/munge",
        # credentials that expire soon, or a requeued job waits two minutes
        "AuthInfo": f"socket={folder}/munge.socket,cred_expire=3",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "log" / "slurmctld",
        "SlurmdLogFile": folder / "log" / "slurmd",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SchedulerParameters": "sched_min_interval=100000,batch_sched_delay=0",
        "AccountingStorageType": "accounting_storage/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MpiDefault": "none",
        "ReturnToService": 2,
        "MaxArraySize": MAX_ARRAY_SIZE,
        "MinJobAge": 300,
        "KillWait": 3,
        "SlurmdTimeout": 30,
        "JobRequeue": 1,
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory=2000 State=UNKNOWN")
    lines.append(f"PartitionName=test Nodes={host} Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:4")
    return "\n".join(lines) + "\n"


def _cgroups() -> str:
    """None are used, but Slurm before 23.11 wants to know which version there is."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes\n" if unified else "CgroupPlugin=cgroup/v1\n"


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    state = ""
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        state = done.stdout.strip() + done.stderr
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.3)
    logs = "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in (folder / "log").iterdir())
    raise RuntimeError(f"the cluster did not come up: {state}\n{logs}")


if __name__ == "__main__":
    with slurm_cluster(Path(sys.argv[1])) as variables:
        print("\n".join(f"export {name}={value}" for name, value in variables.items()), flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
