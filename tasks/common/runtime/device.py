"""Device and precision."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import torch
from torch import nn

from datasets.batch import map_tensors
from datasets.memory import keep_freed_memory
from tasks.common.config import LoopConfig, OptimConfig
from tasks.common.runtime.threads import usable_threads

MIN_BN_IMAGES = 16  # per process; with fewer, batch normalisation is synchronised
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(config: LoopConfig) -> torch.device:
    """The configured device.

    Raises:
        ValueError: if the device is cuda and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("loop.device: cuda, but torch finds no CUDA device; use cpu or auto")
    return torch.device("cuda" if uses_cuda(config) else "cpu")


def setup_device(config: LoopConfig) -> torch.device:
    """The configured device; also sets the global options of torch and of the C library for it, as commands do.

    Raises:
        ValueError: if the device is cuda and there is none.
    """
    device = find_device(config)
    keep_freed_memory()
    num_threads = usable_threads(config.num_threads)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if device.type == "cpu":
        return device
    use_own_gpu()
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS sums in varying order
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("high")
    return device


def use_own_gpu() -> None:
    """Compute on the GPU of this process, by its rank on this machine; without `torchrun`, on the first one.

    Raises:
        ValueError: if there are fewer GPUs than processes.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    num_processes, num_gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if num_processes > num_gpus:
        raise ValueError(
            f"{num_processes} processes, but {num_gpus} GPUs here: lower --nproc_per_node, or use --loop.device cpu"
        )
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def uses_cuda(config: LoopConfig) -> bool:
    """Whether the configured device is a GPU."""
    return config.device != "cpu" and torch.cuda.is_available()


def synchronize_batch_norm(
    model: nn.Module, config: OptimConfig, device: torch.device, images_per_process: int
) -> nn.Module:
    """The model, with SyncBatchNorm layers if configured, or if each process has few images.

    Raises:
        ValueError: if it is configured on a CPU, where torch has no SyncBatchNorm.
    """
    if config.sync_batch_norm and device.type != "cuda":
        raise ValueError("optim.sync_batch_norm: torch synchronises batch statistics on GPUs only; use false or null")
    is_wanted = images_per_process < MIN_BN_IMAGES if config.sync_batch_norm is None else config.sync_batch_norm
    if not is_wanted or device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def compute_dtype(config: LoopConfig, device: torch.device) -> torch.dtype | None:
    """The autocast dtype of the configured precision, None for fp32; fp16 becomes bf16 on a CPU, where it is slow."""
    if config.precision == "fp16" and device.type == "cpu":
        warnings.warn("loop.precision: fp16 is very slow on a CPU; computing in bf16 instead", stacklevel=2)
        return torch.bfloat16
    return _DTYPES.get(config.precision)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Autocast to `dtype`; None disables it."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def to_fp32(outputs: Any) -> Any:
    """A (nested) NamedTuple without tensors of 16 bits, so that autocast does not affect losses and boxes."""
    return map_tensors(lambda tensor: tensor.float() if tensor.dtype.itemsize == 2 else tensor, outputs)


def device_of(network: nn.Module) -> torch.device:
    """The device of a network's tensors; the CPU for a network without any, such as an ONNX file."""
    return next((tensor.device for tensor in chain(network.parameters(), network.buffers())), torch.device("cpu"))
