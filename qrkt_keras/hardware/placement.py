"""Placement: which qubits of a processor stand for those of a circuit."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from scipy.optimize import linear_sum_assignment

# Places that are tried before the search ends with the best it has.
_MOST_TRIES = 200_000

Node = Hashable


def place(
    wanted: nx.Graph,
    device: nx.Graph,
    node_cost: Callable[[Any, Any], float],
    edge_cost: Callable[[Any, Any, Any, Any], float],
) -> dict[Node, Node] | None:
    """The cheapest places at which every edge of a graph is an edge of the device.

    A depth-first search: each qubit is put next to one that has its place, cheapest place first,
    and what cannot beat the best found so far is not followed. It is exhaustive for small circuits,
    and ends after a fixed number of tries for others, so it gives the same answer each time.
    Of parts that no gate connects, it begins with what is cheapest for one after the other. Qubits
    without a pair come last, to what is cheapest for all of them together.

    Args:
        wanted: the circuit's qubits, and the pairs that meet in a gate.
        device: the processor's qubits and pairs.
        node_cost: of a qubit at a place, at least 0.
        edge_cost: of a pair `(qubit, other)` at the pair of places `(spot, near)`, at least 0.

    Returns:
        A place for each qubit, or None if none was found: there may be none, as for a ring of an
        odd number of qubits on a square lattice.

    Example:
        >>> ring, lattice = nx.cycle_graph(4), nx.grid_2d_graph(3, 3)
        >>> places = place(ring, lattice, lambda qubit, spot: sum(spot), lambda *_: 0.0)
        >>> sorted(places.values())
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    if not _may_fit(wanted, device):
        return None
    alone = [qubit for qubit in wanted if not wanted.degree[qubit]]
    if alone:
        places = {}
        if len(alone) < len(wanted):
            paired = wanted.subgraph(set(wanted) - set(alone))
            places = place(paired, device, node_cost, edge_cost)
        if places is None:
            return None
        free = sorted(set(device) - set(places.values()))
        costs = np.array([[node_cost(qubit, spot) for spot in free] for qubit in alone])
        chosen = linear_sum_assignment(costs)[1]
        return places | {qubit: free[i] for qubit, i in zip(alone, chosen, strict=True)}
    order = _order(wanted)
    before = {
        qubit: [other for other in order[:index] if wanted.has_edge(qubit, other)]
        for index, qubit in enumerate(order)
    }
    pairs = [(spot, near) for edge in device.edges for spot, near in (edge, edge[::-1])]
    # What the qubits from each position on cost at least, wherever they are.
    at_least = [0.0]
    for qubit in reversed(order):
        cost = min(node_cost(qubit, spot) for spot in device)
        cost += sum(
            min(edge_cost(qubit, other, *pair) for pair in pairs) for other in before[qubit]
        )
        at_least.append(at_least[-1] + cost)
    at_least.reverse()

    parts = sorted(nx.connected_components(wanted), key=lambda part: (-len(part), min(part)))
    best = _one_by_one(wanted, device, node_cost, edge_cost, parts) if len(parts) > 1 else None
    best_cost, tries = math.inf, 0
    if best is not None:
        best_cost = sum(node_cost(qubit, best[qubit]) for qubit in wanted)
        best_cost += sum(edge_cost(a, b, best[a], best[b]) for a, b in wanted.edges)
    places: dict[Node, Node] = {}
    taken: set[Node] = set()

    def search(index: int, cost: float) -> None:
        nonlocal best, best_cost, tries
        if index == len(order):
            best, best_cost = dict(places), cost
            return
        qubit = order[index]
        offers = []
        for spot in _spots(device, [places[other] for other in before[qubit]], taken):
            if device.degree[spot] >= wanted.degree[qubit]:
                extra = node_cost(qubit, spot)
                for other in before[qubit]:
                    extra += edge_cost(qubit, other, spot, places[other])
                offers.append((extra, spot))
        for extra, spot in sorted(offers):
            if cost + extra + at_least[index + 1] >= best_cost or tries >= _MOST_TRIES:
                return
            tries += 1
            places[qubit] = spot
            taken.add(spot)
            search(index + 1, cost + extra)
            taken.remove(spot)
            del places[qubit]

    search(0, 0.0)
    if best is None and len(parts) == 1 and len(wanted) > 2 and _is_line(wanted):
        # A long line runs into dead ends, where a ring goes on: one is found and cut.
        return _cut_ring(wanted, device, node_cost, edge_cost)
    return best


def _is_line(graph: nx.Graph) -> bool:
    return sorted(degree for _, degree in graph.degree)[:3] == [1, 1, 2]


def _cut_ring(
    line: nx.Graph,
    device: nx.Graph,
    node_cost: Callable[[Any, Any], float],
    edge_cost: Callable[[Any, Any, Any, Any], float],
) -> dict[Node, Node] | None:
    """A line on a ring, whose last pair costs nothing."""
    ends = [node for node in line if line.degree[node] == 1]
    return place_on_ring(
        nx.shortest_path(line, *ends),
        device,
        node_cost,
        lambda a, b, spot, near: edge_cost(a, b, spot, near) if line.has_edge(a, b) else 0.0,
    )


def place_on_ring(
    order: Sequence[Node],
    device: nx.Graph,
    node_cost: Callable[[Any, Any], float],
    edge_cost: Callable[[Any, Any, Any, Any], float],
) -> dict[Node, Node] | None:
    """The cheapest places along a ring, of which one more is left free for an odd number.

    A square lattice has no rings of odd length.

    Args:
        order: the circuit's qubits, as they follow each other.
        device, node_cost, edge_cost: as of `place`.

    Example:
        >>> lattice = nx.grid_2d_graph(2, 2)
        >>> len(place_on_ring("abc", lattice, lambda *_: 0.0, lambda *_: 0.0))
        3
    """
    nodes = [(0, qubit) for qubit in order] + [(1, None)] * (len(order) % 2)
    places = place(
        nx.cycle_graph(nodes),
        device,
        lambda node, spot: node_cost(node[1], spot) if node[0] == 0 else 0.0,
        lambda a, b, spot, near: edge_cost(a[1], b[1], spot, near) if a[0] == b[0] == 0 else 0.0,
    )
    return None if places is None else {qubit: places[0, qubit] for qubit in order}


def _one_by_one(
    wanted: nx.Graph,
    device: nx.Graph,
    node_cost: Callable[[Any, Any], float],
    edge_cost: Callable[[Any, Any, Any, Any], float],
    parts: list[set[Node]],
) -> dict[Node, Node] | None:
    """Each part at the cheapest places that those before it left, or None if one finds none."""
    found: dict[Node, Node] = {}
    for part in parts:
        free = device.subgraph(set(device) - set(found.values()))
        places = place(wanted.subgraph(part), free, node_cost, edge_cost)
        if places is None:
            return None
        found |= places
    return found


def grow(size: int, device: nx.Graph, cost: Mapping[Node, float]) -> list[Node]:
    """A connected part of the device, cheap places first.

    Args:
        size: how many places.
        device: the processor's qubits and pairs.
        cost: of each place.

    Returns:
        The places, each but the first a neighbour of one before; [] if no part is so large.

    Example:
        >>> grow(3, nx.path_graph(5), {0: 3, 1: 0, 2: 9, 3: 1, 4: 1})
        [2, 1, 3]
    """
    best: list[Node] = []
    for start in sorted(device, key=lambda spot: (cost[spot], spot)):
        part = [start]
        while len(part) < size:
            offers = [
                (cost[spot], spot) for near in part for spot in device[near] if spot not in part
            ]
            if not offers:
                break
            part.append(min(offers)[1])
        if len(part) == size and (
            not best or sum(map(cost.__getitem__, part)) < sum(map(cost.__getitem__, best))
        ):
            best = part
    return best


def _spots(device: nx.Graph, near: list[Node], taken: set[Node]) -> set[Node]:
    """Free places that are neighbours of all these."""
    if not near:
        return set(device) - taken
    return set.intersection(*(set(device[spot]) for spot in near)) - taken


def _may_fit(wanted: nx.Graph, device: nx.Graph) -> bool:
    """What can be told without a search."""
    if len(wanted) > len(device):
        return False
    if nx.is_bipartite(device) and not nx.is_bipartite(wanted):
        return False
    most = max((degree for _, degree in device.degree), default=0)
    return all(degree <= most for _, degree in wanted.degree)


def _order(graph: nx.Graph) -> list[Node]:
    """Nodes so that each has as many neighbours before it as can be."""
    order: list[Node] = []
    left = set(graph)
    while left:
        placed = set(order)
        node = min(
            left,
            key=lambda node: (-len(placed & set(graph[node])), -graph.degree[node], node),
        )
        order.append(node)
        left.remove(node)
    return order
