"""A Dask worker that keeps memory with every shard; a preload of the worker (`distributed.worker.preload`)."""

import numpy as np

import tasks.shard

LEAK_MIB = 90
kept: list[np.ndarray] = []


def dask_setup(worker) -> None:
    read_shard = tasks.shard.read_shard

    def leaking(*args):
        kept.append(np.ones(LEAK_MIB * 2**17))
        return read_shard(*args)

    tasks.shard.read_shard = leaking
