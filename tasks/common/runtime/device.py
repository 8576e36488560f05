"""Where and how precisely to compute."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from datasets.memory import keep_freed_memory
from datasets.types import map_tensors
from tasks.common.config import LoopConfig, OptimConfig

FEW_IMAGES = 16  # for batch statistics
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def setup_device(config: LoopConfig) -> torch.device:
    """The device of the configuration, with the process set up to compute fast on it.

    Raises:
        ValueError: if it asks for a CUDA device and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("loop.device: cuda was asked for, but torch finds no CUDA device; use cpu or auto")
    keep_freed_memory()
    if not uses_cuda(config):
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS adds up in any order
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def uses_cuda(config: LoopConfig) -> bool:
    """Whether the configuration's device is a GPU."""
    return config.device != "cpu" and torch.cuda.is_available()


def synchronize_batch_norm(
    model: nn.Module, config: OptimConfig, device: torch.device, images_per_process: int
) -> nn.Module:
    """The model, with batch statistics of all processes' images if the configuration asks for that.

    Raises:
        ValueError: if it does on a CPU, where torch cannot.
    """
    if config.sync_batch_norm and device.type != "cuda":
        raise ValueError("optim.sync_batch_norm: torch synchronises batch statistics on GPUs only; use false or null")
    wanted = images_per_process < FEW_IMAGES if config.sync_batch_norm is None else config.sync_batch_norm
    if not wanted or device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def compute_dtype(config: LoopConfig, device: torch.device) -> torch.dtype | None:
    """The autocast type for a precision, None for fp32; fp16 becomes bf16 on a CPU, which has no fast fp16."""
    if config.precision == "fp16" and device.type == "cpu":
        warnings.warn("loop.precision: fp16 is very slow on a CPU; computing in bf16 instead", stacklevel=2)
        return torch.bfloat16
    return _DTYPES.get(config.precision)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """A context that computes in `dtype` where that is safe; None leaves all in fp32."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def to_fp32(outputs: Any) -> Any:
    """A NamedTuple of tensors, or of such, in fp32: losses and decoding do not lose digits to autocast."""
    return map_tensors(Tensor.float, outputs)


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes; one without any tensors of torch, an ONNX file, does so on the CPU."""
    return next((tensor.device for tensor in chain(network.parameters(), network.buffers())), torch.device("cpu"))
