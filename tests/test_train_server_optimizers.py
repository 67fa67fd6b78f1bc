"""Server optimisers, against torch or by hand, and what is kept between rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import begin, everyone, random_federation, work_of  # noqa: E402

from fedtrain.plan import Plan  # noqa: E402
from fedtrain.rounds import do_round  # noqa: E402
from fedtrain.server_optimizers import SERVER_OPTIMIZERS  # noqa: E402


def stepped(name: str, changes: list[torch.Tensor], plan: Plan) -> torch.Tensor:
    """Where a value that begins at 0 is after these mean changes."""
    value, moments = torch.zeros_like(changes[0]), {}
    for change in changes:
        step, moments = SERVER_OPTIMIZERS[name](change, moments, plan)
        value = value + step
    return value


@pytest.mark.parametrize(("name", "momentum"), [("sgd", 0.0), ("momentum", 0.7)])
def test_sgd_and_momentum_are_those_of_torch_down_minus_the_change(
    name: str, momentum: float
) -> None:
    changes = list(torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)))
    plan = Plan(rounds=4, server_lr=0.3, server_momentum=0.7)
    value = torch.nn.Parameter(torch.zeros(3, 2))
    theirs = torch.optim.SGD([value], lr=0.3, momentum=momentum)
    for change in changes:
        value.grad = -change
        theirs.step()
    torch.testing.assert_close(stepped(name, changes, plan), value.data)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("adagrad", [0.01 + 4.0, 0.01 + 4.0 + 1.0]),
        ("adam", [0.9 * 0.01 + 0.1 * 4.0, 0.9 * 0.409 + 0.1 * 1.0]),
        ("yogi", [0.01 + 0.1 * 4.0, 0.41 + 0.1 * 1.0]),
    ],
)
def test_adaptive_steps_by_hand(name: str, second: list[float]) -> None:
    # Changes 2 and −1, β₁ = 1/2, β₂ = 0.9, τ = 0.1, η = 0.3: m is 1, then 0.
    plan = Plan(rounds=2, server_lr=0.3, server_momentum=0.5, server_beta2=0.9, server_tau=0.1)
    first, kept = SERVER_OPTIMIZERS[name](torch.tensor([2.0]), {}, plan)
    assert float(first) == pytest.approx(0.3 * 1.0 / (second[0] ** 0.5 + 0.1), rel=1e-5)
    step, after = SERVER_OPTIMIZERS[name](torch.tensor([-1.0]), kept, plan)
    assert float(step) == pytest.approx(0.0, abs=1e-7)
    assert float(after["second"]) == pytest.approx(second[1], rel=1e-5)


def test_momentum_is_kept_from_round_to_round() -> None:
    federation = random_federation(3)
    plain = work_of(federation, lr=0.2)
    moved = work_of(
        federation, lr=0.2, server_optimizer="momentum", server_lr=0.5, server_momentum=0.9
    )
    start, clients = begin(moved)
    _, others = begin(plain)  # train on the same, round by round
    server, speed = start, {name: torch.zeros_like(v) for name, v in start.values.items()}
    for number in (1, 2, 3):
        alone = do_round(
            plain, replace(start, values=server.values).at(number), others, everyone(plain)
        )
        after = do_round(moved, server.at(number), clients, everyone(moved)).server
        for name in server.values.keys() - moved.private:
            change = alone.server.values[name] - server.values[name]
            speed[name] = 0.9 * speed[name] + change
            torch.testing.assert_close(
                after.values[name], server.values[name] + 0.5 * speed[name], rtol=1e-4, atol=1e-6
            )
        server = after
