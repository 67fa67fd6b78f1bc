"""The picture of clients and categories: which part of each client's rows is of which category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.report.pictures.canvas import WIDE, amounts, plain_numbers, short
from fedprep.report.pictures.picture import Drawn, NothingToDraw
from fedprep.report.pictures.view import NAMED_CLIENTS, View
from fedprep.schema import CLIENT_ID, ITEM_ID

__all__ = ["ClientCategories", "draw", "measure"]

SHOWN = NAMED_CLIENTS
"""Clients that are shown."""


@dataclass(frozen=True, kw_only=True)
class ClientCategories:
    """shares: (n_shown + 1, n_categories), of a client's rows whose item has a category those of this one;
    all rows first. n_known: clients that have such rows."""

    clients: tuple[str, ...]
    n_known: int
    categories: tuple[str, ...]
    shares: npt.NDArray[np.float64]
    n_clients: int
    n_categories: int
    common: tuple[str, ...]


def measure(view: View) -> ClientCategories:
    """Returns the shares of the commonest categories at clients from the most to the least average."""
    found = view.categories
    known = view.index.drop_nulls("category_divergence").sort("category_divergence", CLIENT_ID)
    if known.is_empty():
        raise NothingToDraw("no client has an item with a category")
    places = np.unique(np.linspace(0, known.height - 1, min(SHOWN, known.height)).astype(int))
    clients = known[CLIENT_ID].gather(places)
    rows = view.rows.filter(pl.col(CLIENT_ID).is_in(clients.implode()))
    pairs = rows.group_by(CLIENT_ID, ITEM_ID).len().collect(engine="streaming")
    named = view.mentions.filter(pl.col("category").is_in(found.names)).collect(engine="streaming")
    totals = pairs.join(named, on=ITEM_ID).group_by(CLIENT_ID, "category").agg(pl.col("len").sum())
    client_place = {client: place for place, client in enumerate(clients.to_list())}
    category_place = {name: place for place, name in enumerate(found.names)}
    table = np.zeros((len(clients), len(found.names)))
    for client, category, count in totals.iter_rows():  # at most SHOWN * MOST_CATEGORIES
        table[client_place[client], category_place[category]] = count
    with_one = pl.DataFrame({ITEM_ID: view.items_with_category}).cast(pairs.schema[ITEM_ID])
    with_one = pairs.join(with_one, on=ITEM_ID, how="semi")
    sizes = dict(with_one.group_by(CLIENT_ID).agg(pl.col("len").sum()).iter_rows())
    n_rows = np.array([sizes.get(client, 0) for client in clients], dtype=float)
    shares = table / np.maximum(n_rows, 1)[:, None]
    return ClientCategories(
        clients=view.client_names(clients.to_numpy().astype(np.int64)),
        n_known=known.height,
        categories=found.names,
        shares=np.vstack([found.rows / found.n_rows, shares]),
        n_clients=view.index.height,
        n_categories=found.n_all,
        common=found.common,
    )


def draw(part: ClientCategories) -> Drawn:
    """Draws a row a client and a column a category: the darker, the more of the client's rows."""
    from matplotlib.figure import Figure

    n_rows = len(part.shares)
    figure = Figure(figsize=(WIDE[0], 1.5 + 0.15 * n_rows), layout="constrained")
    axes = figure.subplots()
    image = axes.pcolormesh(
        100 * part.shares,
        cmap=amounts(),
        vmin=0,
        edgecolors="white",
        linewidth=0.4,
        rasterized=True,
    )
    axes.invert_yaxis()
    axes.axhline(1, color="white", lw=5)
    axes.set_xticks(np.arange(len(part.categories)) + 0.5, [short(c) for c in part.categories])
    axes.tick_params(axis="x", rotation=30, length=0)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
        label.set_rotation_mode("anchor")
    axes.set_yticks(np.arange(n_rows) + 0.5, ["all rows", *(short(c, 16) for c in part.clients)])
    axes.tick_params(axis="y", length=0, labelsize=7.5)
    axes.set_ylabel("client, the most average first")
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, label="% of the rows with a category", pad=0.01)
    plain_numbers(bar.ax.yaxis)
    whole, last = part.shares[0], part.shares[-1]
    most = int(np.argmax(last - whole))
    mine, usual = (f"{100 * shares[most]:.3g} %" for shares in (last, whole))
    n_shown = len(part.clients)
    spaced = ", spaced evenly from the most average to the most unusual," * (n_shown < part.n_known)
    none = part.n_clients - part.n_known
    which = f"{n_shown} of {part.n_clients:,} clients" + (
        f" ({none:,} have no category)" if none else ""
    )
    aside = (
        f"; '{short(part.common[0])}', on nearly every item, is left aside" if part.common else ""
    )
    return Drawn(
        figure=figure,
        alt=f"Heat map of {n_shown} clients and {len(part.categories)} categories.",
        measured=f"{which}{spaced} and the {len(part.categories)} commonest of {part.n_categories:,} "
        f"categories{aside}; the last client has {mine} '{short(part.categories[most])}', all rows {usual}",
        look_for="Rows like the first one are clients like all. Rows with a few dark cells are clients "
        "of one taste: features shift from client to client. An item counts for each of its categories.",
    )
