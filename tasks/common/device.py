"""Where and how precisely to compute."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from datasets.memory import keep_freed_memory
from tasks.common.config import LoopConfig

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def open_device(config: LoopConfig) -> torch.device:
    """The device of the configuration, with the process set up to compute fast on it.

    Raises:
        ValueError: if it asks for a CUDA device and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ValueError("loop.device: cuda was asked for, but torch finds no CUDA device; use cpu or auto")
    keep_freed_memory()
    if config.device == "cpu" or not has_cuda:
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def compute_dtype(config: LoopConfig, device: torch.device) -> torch.dtype | None:
    """The autocast type for a precision, None for fp32; fp16 becomes bf16 on a CPU, which has no fast fp16."""
    if config.precision == "fp16" and device.type == "cpu":
        warnings.warn("loop.precision: fp16 is very slow on a CPU; computing in bf16 instead", stacklevel=2)
        return torch.bfloat16
    return _DTYPES.get(config.precision)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """A context that computes in `dtype` where that is safe; None leaves all in fp32."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def in_fp32(outputs: Any) -> Any:
    """A NamedTuple of tensors, or of such, in fp32: losses and decoding do not lose digits to autocast."""
    return outputs.float() if isinstance(outputs, Tensor) else type(outputs)(*map(in_fp32, outputs))


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes; one without any tensors of torch, an ONNX file, does so on the CPU."""
    return next((tensor.device for tensor in chain(network.parameters(), network.buffers())), torch.device("cpu"))
