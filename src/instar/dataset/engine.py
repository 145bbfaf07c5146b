"""Work on every shard by Dask: threads here, or a cluster that a configuration file of Dask's own names.

Where the work runs changes no result, so it is no parameter: ``instar: {cluster: slurm, jobs: 8}`` in Dask's
configuration, with ``jobqueue: {slurm: …}`` as dask-jobqueue describes it, sends the shards to SLURM.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
import dask.bag
from dask.callbacks import Callback
from tqdm import tqdm

from instar.errors import InputError
from instar.progress import bar

Result = TypeVar("Result")

#: Partial results that are combined at a time; few, since those of a class table take megabytes.
FAN_IN = 8


class Engine:
    """Runs functions over shards. Use ``engine``."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def fold(
        self,
        what: str,
        function: Callable[[int], Result],
        items: Sequence[int],
        combine: Callable[[list[Result]], Result],
    ) -> Result:
        """``combine`` of ``function`` of every item, combined a few at a time as they come.

        Args:
            what: for the progress.
            function: of one item.
            items: at least one.
            combine: of a list of at least one partial results; must not depend on how they are grouped.
        """
        bag = dask.bag.from_sequence(items, partition_size=1).map(function)
        folded = bag.reduction(lambda part: combine(list(part)), lambda parts: combine(list(parts)), split_every=FAN_IN)
        with _Counted(what, len(items)):
            result: Result = folded.compute(scheduler=self._scheduler)
        return result


@contextmanager
def engine() -> Iterator[Engine]:
    """Threads on this machine, or the cluster that Dask's configuration names."""
    cluster = dask.config.get("instar.cluster", "threads")
    if cluster == "threads":
        yield Engine("threads")
        return
    if cluster != "slurm":
        raise InputError(
            f"instar.cluster = {cluster!r} in Dask's configuration is unknown; it must be threads or slurm"
        )
    from dask.distributed import Client
    from dask_jobqueue import SLURMCluster

    with SLURMCluster() as jobs, Client(jobs) as client:
        jobs.scale(jobs=int(dask.config.get("instar.jobs", 4)))
        yield Engine(client)


class _Counted(Callback):
    """Progress by finished shards; a cluster's tasks do not report here, and Dask's own page shows them."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__(pretask=None, posttask=self._done)
        self._bar: tqdm[Any] = bar(what, total)

    def _done(self, key: Any, *_: Any) -> None:
        # the first task of each shard, where the function itself runs; the others combine. Dask names a task by all
        # that it fused into it, in the order of the alphabet, and a single shard's task by a string
        if "from_sequence" in str(key[0] if isinstance(key, tuple) else key):
            self._bar.update()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._bar.close()
