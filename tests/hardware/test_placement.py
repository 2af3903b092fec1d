"""Placement against a search through all placements."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

from qrkt_keras.hardware import get_processor
from qrkt_keras.hardware.placement import grow, place


def costs(lattice, seed):
    rng = np.random.default_rng(seed)
    nodes = {node: rng.uniform(0, 1) for node in lattice}
    edges = {frozenset(edge): rng.uniform(0, 1) for edge in lattice.edges}

    def node_cost(qubit, spot):
        return (1 + qubit % 2) * nodes[spot]

    def edge_cost(qubit, other, spot, near):
        return (1 + (qubit + other) % 3) * edges[frozenset((spot, near))]

    return node_cost, edge_cost


def total(wanted, places, node_cost, edge_cost):
    cost = sum(node_cost(qubit, places[qubit]) for qubit in wanted)
    return cost + sum(edge_cost(a, b, places[a], places[b]) for a, b in wanted.edges)


GRAPHS = {
    "ring": nx.cycle_graph(4),
    "line": nx.path_graph(4),
    "star": nx.star_graph(3),
    "two parts": nx.compose(nx.path_graph(2), nx.relabel_nodes(nx.path_graph(2), {0: 2, 1: 3})),
    "no edges": nx.empty_graph(3),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_cheapest(name, seed):
    wanted, lattice = GRAPHS[name], nx.grid_2d_graph(3, 3)
    node_cost, edge_cost = costs(lattice, seed)
    places = place(wanted, lattice, node_cost, edge_cost)
    assert len(set(places.values())) == len(wanted)
    assert all(lattice.has_edge(places[a], places[b]) for a, b in wanted.edges)
    cheapest = min(
        total(wanted, dict(zip(wanted, spots, strict=True)), node_cost, edge_cost)
        for spots in itertools.permutations(lattice, len(wanted))
        if all(
            lattice.has_edge(spots[list(wanted).index(a)], spots[list(wanted).index(b)])
            for a, b in wanted.edges
        )
    )
    assert total(wanted, places, node_cost, edge_cost) == pytest.approx(cheapest)


@pytest.mark.parametrize(
    "wanted", [nx.cycle_graph(3), nx.cycle_graph(5), nx.star_graph(5), nx.path_graph(10)]
)
def test_what_does_not_fit(wanted):
    lattice = nx.grid_2d_graph(3, 3)
    assert place(wanted, lattice, lambda *_: 0.0, lambda *_: 0.0) is None


def test_large_circuits_end_with_the_same_answer():
    lattice = nx.grid_2d_graph(7, 7)
    node_cost, edge_cost = costs(lattice, 0)
    ring = nx.cycle_graph(24)
    places = place(ring, lattice, node_cost, edge_cost)
    assert places is not None
    assert places == place(ring, lattice, node_cost, edge_cost)


def test_parts_that_do_not_find_their_places_one_by_one():
    """A line, a ring and a line, which a search for all together places on rainbow."""
    wanted = nx.disjoint_union_all([nx.path_graph(4), nx.cycle_graph(6), nx.path_graph(7)])
    processor = get_processor("rainbow")
    errors = {q: sum(processor.readout_errors[q]) for q in processor.qubits}
    places = place(wanted, processor.graph, lambda qubit, spot: errors[spot], lambda *_: 0.0)
    assert places is not None and len(set(places.values())) == 17
    assert all(processor.graph.has_edge(places[a], places[b]) for a, b in wanted.edges)


def test_a_connected_part_of_cheap_places():
    lattice = nx.grid_2d_graph(3, 3)
    cost = {node: float(node[0] > 0) for node in lattice}
    assert sorted(grow(3, lattice, cost)) == [(0, 0), (0, 1), (0, 2)]
    part = grow(7, lattice, cost)
    assert len(set(part)) == 7 and nx.is_connected(lattice.subgraph(part))
    assert grow(10, lattice, cost) == []
