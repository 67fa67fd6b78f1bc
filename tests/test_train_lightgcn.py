"""LightGCN: the graph of a client against the paper's matrices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedtrain.models.lightgcn import LightGCN
from fedtrain.models.mf import MatrixFactorisation
from tests.model_toys import N_ITEMS, Toy, toy

torch.set_num_threads(1)


def propagated(clients: Toy, layers: int, client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The paper's equations 7 and 8, by the adjacency matrix of users and items."""
    batch = clients.batch
    assert batch.given is not None
    length = batch.given.shape[-1]
    n_users = batch.user.shape[1]
    edges = torch.zeros(n_users, N_ITEMS, dtype=torch.float64)
    for user in range(n_users):
        for place in range(length):
            if batch.given[client, user, place]:
                edges[user, batch.item[client, user, place]] = 1
    adjacency = torch.zeros(n_users + N_ITEMS, n_users + N_ITEMS, dtype=torch.float64)
    adjacency[:n_users, n_users:], adjacency[n_users:, :n_users] = edges, edges.T
    degree = adjacency.sum(1).clamp(min=1) ** -0.5
    normed = degree[:, None] * adjacency * degree
    state = torch.cat(
        [
            clients.tables["user.embedding"][client, batch.user[client]],
            clients.tables["item.embedding"][client],
        ]
    )
    total = state.clone()
    for _ in range(layers):
        state = normed @ state
        total += state
    return (total / (layers + 1)).split([n_users, N_ITEMS])  # type: ignore[no-untyped-call,return-value]


@pytest.mark.parametrize("dim", [2, 3])  # three users a client: more than numbers, or not
@pytest.mark.parametrize("layers", [0, 1, 2, 3, 4])
def test_scores_equal_the_papers_matrix_form(layers: int, dim: int) -> None:
    clients = toy(LightGCN(dim=dim, layers=layers), "bpr")
    scores = clients.scores()
    for client in range(3):
        user, item = propagated(clients, layers, client)
        torch.testing.assert_close(scores[client], user @ item.T, rtol=1e-5, atol=1e-6)


def test_no_layer_is_matrix_factorisation() -> None:
    clients = toy(LightGCN(dim=3, layers=0), "bpr")
    plain = MatrixFactorisation(dim=3, bias=False)
    values = clients.values(clients.tables)
    names = {"user.embedding": "user_factors", "item.embedding": "item_factors"}
    expected = plain.outputs({names[n]: value for n, value in values.items()}, clients.batch)
    item, outputs, used = clients.scored()
    assert item.shape == expected.shape
    length = torch.as_tensor(clients.batch.given).shape[-1]
    own = outputs.unflatten(-1, (length, -1))[..., 0]
    torch.testing.assert_close(own, expected[..., :length])
    assert used.any()


def star(model: LightGCN) -> Toy:
    """A client of one user, 8, with the items 2 and 4, and a negative of each: 6, and the first item."""
    clients = toy(model, "bpr", n_clients=1)
    batch = clients.batch
    batch = replace(
        batch,
        user=torch.tensor([[0]]),
        item=torch.tensor([[[0, 1, 2, 0]]]),  # items 0 and 1, negatives 2 and (of the user's own) 0
        given=torch.tensor([[[True, True]]]),
        target=torch.ones(1, 1, 2),
        mask=torch.ones(1, 1, dtype=torch.bool),
    )
    tables = {
        "user.embedding": torch.tensor([[[8.0]]]),
        "item.embedding": torch.tensor([[[2.0], [4.0], [6.0]]]),
    }
    return replace(clients, batch=batch, tables=tables)


def test_a_star_of_one_user_by_hand() -> None:
    """A user of two items and one layer: e_u = (u + (i + j) / √2) / 2, e_i = (i + u / √2) / 2."""
    found = star(LightGCN(dim=1, layers=1, hidden=0.0)).outputs()
    root = 2**0.5
    user = (8 + 6 / root) / 2
    first, second, third = (2 + 8 / root) / 2, (4 + 8 / root) / 2, 6 / 2
    expected = torch.tensor([[[[user * first, user * third], [user * second, user * first]]]])
    torch.testing.assert_close(found, expected)


def test_a_hidden_edge_is_not_in_the_graph_and_alone_in_the_loss() -> None:
    """The second item is hidden: e_u = (u + i) / 2, e_i = (i + u) / 2, and e_j = j / 2 as of a negative."""
    drawn = torch.tensor([[[0.7, 0.3]]])
    clients = star(LightGCN(dim=1, layers=1, hidden=0.5))
    clients = clients.with_batch(noise=lambda purpose, size: drawn)
    user, first, second, third = (8 + 2) / 2, (2 + 8) / 2, 4 / 2, 6 / 2
    expected = torch.tensor([[[[user * first, user * third], [user * second, user * first]]]])
    torch.testing.assert_close(clients.outputs(), expected)
    difference = torch.tensor(user * second - user * first, dtype=torch.float64)
    torch.testing.assert_close(
        clients.losses()[0], torch.nn.functional.softplus(-difference), check_dtype=False
    )
    still = clients.with_batch(training=False)
    plain = star(LightGCN(dim=1, layers=1, hidden=0.0)).with_batch(training=False)
    assert torch.equal(still.outputs(), plain.outputs())
    assert torch.equal(still.losses(), plain.losses())


def test_with_all_edges_in_the_graph_a_star_learns_no_item() -> None:
    """A user's vector that grows parts its items from all others, whichever they are: the loss falls to 0."""
    same = torch.ones(1, 3, 1)

    def loss(hidden: float, length: float) -> float:
        clients = star(LightGCN(dim=1, layers=1, hidden=hidden))
        tables = {"user.embedding": torch.tensor([[[length]]]), "item.embedding": same}
        drawn = torch.tensor([[[0.7, 0.3]]])
        noisy = replace(clients, tables=tables).with_batch(noise=lambda purpose, size: drawn)
        item = torch.tensor([[[0, 1, 2, 2]]])
        return float(noisy.with_batch(item=item).losses()[0])

    assert loss(0.0, 8.0) < 1e-5 < 0.1 < loss(0.0, 0.1)
    assert loss(0.5, 8.0) == pytest.approx(loss(0.5, 0.1)) == pytest.approx(0.6931, abs=1e-4)


def test_users_of_a_client_meet_in_the_items_they_share_and_those_of_others_do_not() -> None:
    clients = toy(LightGCN(dim=3, layers=2), "bpr", n_clients=2)
    batch = clients.batch
    item, given = batch.item.clone(), torch.as_tensor(batch.given).clone()
    item[:, :, 0] = 4  # all users have item 4
    given[:, :, 0] = True
    meeting = clients.with_batch(item=item, given=given)
    tables = {name: table.clone() for name, table in clients.tables.items()}
    tables["user.embedding"][0, batch.user[0, 0]] += 1
    moved = (replace(meeting, tables=tables).outputs() - meeting.outputs()).abs().amax((2, 3))
    assert float(moved[0, 1]) > 1e-6
    assert float(moved[1].max()) == 0


def test_padding_lends_no_item_its_row() -> None:
    clients = toy(LightGCN(dim=3), "bpr")
    batch = clients.batch
    values = clients.values(clients.tables)
    assert batch.given is not None
    n = batch.item.shape[-1] // batch.given.shape[-1] - 1
    used = torch.cat([batch.given, batch.given.repeat_interleave(n, -1)], -1)
    odd = torch.where(used[..., None], values["item.embedding"], 1e6)
    found = clients.model.outputs({**values, "item.embedding": odd}, batch)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found[batch.given], clients.outputs()[batch.given])
