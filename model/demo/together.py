"""Several processes that train one network: each learns from a part of every batch, and all take the same step.

On a CPU two processes of one thread get further in the same time than one process of two threads.
"""

import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

Work = Callable[[int], None]


def run(work: Work, parts: int) -> None:
    """Call `work` with 0 to `parts` - 1, each in a process of its own; SIGINT and SIGTERM reach them as SIGTERM."""
    with tempfile.TemporaryDirectory() as folder:
        running = spawn(  # type: ignore[no-untyped-call]
            _start, (work, parts, Path(folder) / "meeting"), nprocs=parts, join=False
        )

        def stop(*_: object) -> None:
            for process in running.processes:
                if process.is_alive():
                    process.terminate()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not running.join():
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _start(part: int, work: Work, parts: int, meeting: Path) -> None:
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=part, world_size=parts)
    try:
        work(part)
    finally:
        dist.destroy_process_group()


def agree(parameters: Sequence[Tensor], stopping: bool) -> bool:
    """Replace the parameters' gradients by their mean over all processes; return whether one of them wants to stop."""
    grads = [value.grad if value.grad is not None else torch.zeros_like(value) for value in parameters]
    everything = torch.cat([*(grad.flatten() for grad in grads), torch.tensor([float(stopping)])])
    dist.all_reduce(everything)
    *means, wish = torch.split(everything, [*(grad.numel() for grad in grads), 1])
    for value, grad, mean in zip(parameters, grads, means, strict=True):
        value.grad = (mean / dist.get_world_size()).view_as(grad)
    return bool(wish > 0)
