"""A real SLURM on this one machine, all of its files in one folder: munge, slurmctld and slurmd of Debian's packages.

Only a link at SLURM's usual place points there while it runs: Snakemake's plugin clears SLURM_CONF inside jobs.

It has a partition ``cpu`` and a partition ``gpu`` with two pretended GPUs (slurmd refuses a GRES without device files,
so these are empty files). No accounting, no systemd; needs root, as slurmd does.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

#: What the node pretends to have, so that the profile's requests for a real cluster fit.
CPUS = 32
MEMORY_MB = 256_000

CONFIGURATION = """\
ClusterName=instar
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
ReturnToService=2
MinJobAge=3600
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=gpu Nodes={host} Default=NO MaxTime=INFINITE State=UP
"""

USUAL = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")


def missing() -> str | None:
    """Why SLURM can't be started here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{absent[0]} is not installed (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd needs root"
    return f"{USUAL} is this machine's own" if USUAL.exists() and not USUAL.is_symlink() else None


class Cluster:
    """Starts in ``folder`` when entered and ends when left; ``environment`` makes SLURM's commands use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Cluster":
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        for index in range(2):
            (self.folder / f"gpu{index}").touch()
        values = {"host": host, "folder": self.folder, "cpus": CPUS, "memory": MEMORY_MB}
        ports = {"port": _free_port(), "slurmd_port": _free_port()}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**values, **ports))
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        USUAL.parent.mkdir(exist_ok=True)
        USUAL.unlink(missing_ok=True)  # a link that a killed test left
        USUAL.symlink_to(self.folder / "slurm.conf")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={self.folder}/munge.{end}" for name, end in names.items()]
        try:
            self._start("munged", "--foreground", "--force", *options)
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
            self._start("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            self._wait(lambda: "UP" in self._ask("scontrol", "ping"), "slurmctld")
            self._start("slurmd", "-D", "-f", self.environment["SLURM_CONF"])
            self._wait(lambda: "idle" in self._ask("sinfo", "-h", "-o", "%T"), "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        USUAL.unlink(missing_ok=True)
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def jobs(self) -> list[dict[str, str]]:
        """What the cluster knows of every job: scontrol's fields."""
        lines = self._ask("scontrol", "-o", "show", "jobs").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if "JobId=" in line]

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("wb")
        with log:
            environment = {**os.environ, **self.environment}
            self._processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def _ask(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def _wait(self, ready: object, name: str) -> None:
        assert callable(ready)
        end = time.monotonic() + 60
        while not ready():
            if time.monotonic() > end:
                logs = [self.folder / f"{name}.out", self.folder / f"{name}.log"]
                told = "\n".join(path.read_text()[-2000:] for path in logs if path.exists())
                raise RuntimeError(f"{name} did not come up within 60 s:\n{told}")
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
