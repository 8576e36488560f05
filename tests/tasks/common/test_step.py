"""A training step: accumulated gradients, overflow of fp16, sums of losses."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from datasets.batch import Batch
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.training.optim import EmaModel
from tasks.common.training.state import TrainingState
from tasks.common.training.step import train_step


class Targets(NamedTuple):
    values: Tensor


class SquaredError:
    """The loss, which is all that a step uses of an objective."""

    def loss(self, outputs: Tensor, targets: Targets, _world: Any) -> dict[str, Tensor]:
        return {"total": (outputs[:, 0] - targets.values).square().mean()}


def batch_of(values: list[float]) -> Batch[float]:
    images = torch.arange(len(values), dtype=torch.float32).reshape(-1, 1) + 1
    return Batch(images, [], Targets(torch.tensor(values)), list(range(len(values))), [])


def state_of(*, is_scaled: bool = False) -> TrainingState:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=9.0)  # a step sets its own
    return TrainingState(model, EmaModel(model, 0.9), optimizer, torch.amp.GradScaler("cpu", enabled=is_scaled))


def step(state: TrainingState, *batches: Batch[float]) -> None:
    settings: dict[str, Any] = {"lr": 0.01, "clip_norm": None, "dtype": None, "world": SINGLE_PROCESS}
    train_step(SquaredError(), state.model, state, batches, **settings)  # type: ignore[arg-type]


def test_two_batches_are_one_of_twice_the_size() -> None:
    whole, accumulated = state_of(), state_of()
    step(whole, Batch(torch.tensor([[1.0], [2.0], [1.0], [2.0]]), [], Targets(torch.tensor([1.0, 2, 3, 4])), [], []))
    step(accumulated, batch_of([1.0, 2.0]), batch_of([3.0, 4.0]))
    for actual, expected in zip(accumulated.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(actual, expected)
    assert accumulated.mean_losses(SINGLE_PROCESS)["loss"] == pytest.approx(whole.mean_losses(SINGLE_PROCESS)["loss"])


def test_a_step_by_hand() -> None:
    state = state_of()
    weight, bias = (parameter.item() for parameter in state.model.parameters())
    step(state, batch_of([3.0]))  # x = 1: error e = w + b - 3, both gradients 2 e
    error = weight + bias - 3
    assert [p.item() for p in state.model.parameters()] == pytest.approx([weight - 0.02 * error, bias - 0.02 * error])
    assert state.mean_losses(SINGLE_PROCESS) == {"loss": pytest.approx(error**2)}
    assert state.step == 1


def test_ema_is_not_updated_in_a_step_that_overflows() -> None:
    """GradScaler skips the step, so the weights do not change."""
    state = state_of(is_scaled=True)
    assert state.ema is not None
    step(state, batch_of([1.0, 2.0]))
    before, updates = [p.clone() for p in state.model.parameters()], int(state.ema.n_averaged)
    averaged = [p.clone() for p in state.ema.module.parameters()]
    step(state, batch_of([1e38, -1e38]))
    assert all(map(torch.equal, state.model.parameters(), before))
    assert all(map(torch.equal, state.ema.module.parameters(), averaged))
    assert int(state.ema.n_averaged) == updates == 1


def test_a_loss_that_is_not_finite_is_an_error_when_it_is_read() -> None:
    state = state_of()
    step(state, batch_of([float("nan")]))
    step(state, batch_of([1.0]))
    with pytest.raises(ValueError, match=r"not finite.* a lower optim\.lr"):
        state.state_dict(SINGLE_PROCESS)


def test_sums_resume_exactly_from_a_checkpoint() -> None:
    unbroken, stopped = state_of(), state_of()
    for value in (1.0, 0.1):
        for state in (unbroken, stopped):
            step(state, batch_of([value]))
    resumed = state_of()
    resumed.load_state_dict(stopped.state_dict(SINGLE_PROCESS))
    for state in (unbroken, resumed):
        step(state, batch_of([0.3]))
    assert resumed.mean_losses(SINGLE_PROCESS) == unbroken.mean_losses(SINGLE_PROCESS)
    assert all(map(torch.equal, resumed.model.parameters(), unbroken.model.parameters()))


@pytest.mark.parametrize("name", ["0.weight", "1.bias", "1.running_mean", "1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_process_saves_what_is_not_finite(name: str, value: float) -> None:
    """Nor if it is so in another process alone, as batch statistics are: all raise the error, and none waits."""

    class Two(World):
        def any(self, *flags: bool) -> list[bool]:
            told.append(flags)
            return [True]

        def mean(self, values: Tensor) -> Tensor:
            return values

    told: list[tuple[bool, ...]] = []
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=9.0)
    state = TrainingState(model, None, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    assert state.state_dict(SINGLE_PROCESS)["step"] == 0
    with pytest.raises(ValueError, match="step 0: weights or batch statistics are not finite"):
        state.state_dict(Two(0, 2))
    with torch.no_grad():
        model.state_dict()[name].fill_(value)
    with pytest.raises(ValueError, match="step 0: weights or batch statistics are not finite"):
        state.state_dict(SINGLE_PROCESS)
    with pytest.raises(ValueError, match="not finite"):
        state.state_dict(Two(1, 2))
    assert told == [(False,), (True,)]
