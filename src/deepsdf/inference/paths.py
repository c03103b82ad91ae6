"""Ways from one code to another: straight, or over training shapes.

A straight line between two unlike shapes leads through codes that no training shape is near to: half of one's legs and
half of the other's. `prior` goes where the training codes lie densely instead: of all ways over training codes the one
with the least Σ |step|^4, so that no step is long (a power-weighted shortest path: Bijral, Ratliff and Srebro, UAI
2011; Hwang, Damelin and Hero, 2016). Where none lies between the two it is the straight line.

Two smoother ways were tried (docs/space.md). A geodesic of a kernel density is all but straight, since in so many
dimensions all codes are equally far apart; and a great circle in the prior's whitened coordinates, which keeps the
usual distance from the mean, has worse fields than the straight line.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from deepsdf.errors import InputError

Path = Literal["linear", "prior"]

POWER = 4.0
"""Of a step's length. 1 would be the straight line; the more, the more training shapes are met."""


def code_path(a: Tensor, b: Tensor, steps: int, *, path: Path = "linear", codes: Tensor) -> Tensor:
    """Codes (steps, L) from a (L,) to b (L,), both included, equally far apart along the way.

    Args:
        codes: (n, L) of training; "linear" does not look at them.
    Raises:
        InputError: fewer than 2 steps, or another path.
    """
    if steps < 2:
        raise InputError(f"steps is {steps}; an interpolation has at least its 2 ends")
    if path not in get_args(Path):
        raise InputError(f"path is {path!r}; it may be 'linear' or 'prior'")
    if path == "linear":
        return torch.stack([a + (b - a) * step / (steps - 1) for step in range(steps)])
    found = resampled(over_codes(a, b, codes), steps)
    found[0], found[-1] = a, b  # to the last bit
    return found


def over_codes(a: Tensor, b: Tensor, codes: Tensor, power: float = POWER) -> Tensor:
    """Places (k, L): a, some of the codes (n, L), b, with the least Σ |step|^power."""
    from scipy.sparse.csgraph import dijkstra

    nodes = torch.cat([a[None], b[None], codes]).double().cpu()
    lengths = torch.cdist(nodes, nodes)
    costs = (lengths / lengths.max().clamp_min(1e-30)) ** power
    # To scipy less than 1e-8 is no edge, but an end that is a training code lies upon it.
    _, before = dijkstra(costs.clamp_min(1e-7).numpy(), indices=0, return_predecessors=True)
    way = [1]
    while way[-1] != 0:
        way.append(int(before[way[-1]]))
    return nodes[way[::-1]].to(a)


def resampled(way: Tensor, count: int) -> Tensor:
    """A polyline (k, L) as `count` places on it, equally far apart along it."""
    lengths = (way[1:] - way[:-1]).norm(dim=1)
    along = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    wanted = torch.linspace(0.0, 1.0, count, device=way.device) * along[-1]
    after = torch.searchsorted(along, wanted, right=True).clamp(1, len(way) - 1)
    share = ((wanted - along[after - 1]) / lengths[after - 1].clamp_min(1e-30)).clamp(0.0, 1.0)
    return way[after - 1] + (way[after] - way[after - 1]) * share[:, None]
