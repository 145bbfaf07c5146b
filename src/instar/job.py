"""The command that the Snakefile's rules run every job through."""

import argparse
import signal
import sys
import time
from pathlib import Path

from instar.files import naming_full_disk
from instar.store import run_job


def job(words: list[str]) -> int:
    """instar job --inputs … --outputs … --log … [options] -- COMMAND: see ``instar.store.run_job``."""
    parser = argparse.ArgumentParser(
        prog="instar job", description=run_job.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", nargs="+", type=Path, required=True, help="files and folders the command reads")
    parser.add_argument("--outputs", nargs="+", type=Path, required=True, help="files and folders the command writes")
    parser.add_argument("--log", type=Path, required=True, help="gets what the command prints")
    parser.add_argument("--keep", action="store_true", help="keep the outputs in the store, or take them from there")
    parser.add_argument("--scratch", type=Path, help="a file of the command, see there")
    parser.add_argument("--of", type=int, help="jobs of the stage; the last line says how far all are")
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    if not words[split + 1 :]:
        parser.error("no command after --")
    # SLURM ends a job with SIGTERM: end the command too and leave no staging folder
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.time()
    with naming_full_disk(options.outputs[0]):
        status = run_job(
            words[split + 1 :],
            options.inputs,
            options.outputs,
            log=options.log,
            keep=options.keep,
            scratch=options.scratch,
        )
    if options.of and not status:
        from instar.overall import told  # here, since it takes longer than all else that starts a job

        first: Path = options.outputs[0]
        print(f"{first}: done; over all: {told(first, options.of, began)}", file=sys.stderr)
    return status
