"""Paths from one code to another: straight, or through training codes.

A straight line between two different shapes passes codes that no training shape is near: half of one shape's legs and
half of the other's. `prior` passes regions with many training codes instead: of all paths through training codes it is
the one with the least Σ |step|^4, so that no step is long (a power-weighted shortest path: Bijral, Ratliff and Srebro,
UAI 2011; Hwang, Damelin and Hero, 2016). If no training code lies between the two, it is the straight line.

Two smoother paths were tried (docs/space.md). A geodesic of a kernel density is almost straight, because in so many
dimensions all codes are equally far apart. A great circle in whitened coordinates, which keeps the usual distance from
the mean, has worse fields than the straight line.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from deepsdf.errors import InputError

Path = Literal["linear", "prior"]

POWER = 4.0
"""Exponent of the length of a step. With 1 the path is the straight line; the larger, the more training codes it
passes. Set by hand: with 4, a step of double length costs 16 times as much."""


def code_path(a: Tensor, b: Tensor, steps: int, *, path: Path = "linear", codes: Tensor) -> Tensor:
    """Codes (steps, L) from a (L,) to b (L,), both included, equally spaced along the path.

    Args:
        path: see above.
        codes: (n, L), training codes; not used by "linear".
    Raises:
        InputError: fewer than 2 steps, or an unknown path.
    """
    if steps < 2:
        raise InputError(f"steps is {steps}; expected at least 2, the ends")
    if path not in get_args(Path):
        raise InputError(f"path is {path!r}; expected 'linear' or 'prior'")
    if path == "linear":
        return torch.stack([a + (b - a) * step / (steps - 1) for step in range(steps)])
    points = resampled(over_codes(a, b, codes), steps)
    points[0], points[-1] = a, b  # without rounding
    return points


def over_codes(a: Tensor, b: Tensor, codes: Tensor, power: float = POWER) -> Tensor:
    """Polyline (k, L): a, some of the codes (n, L), b, with the least Σ |step|^power."""
    from scipy.sparse.csgraph import dijkstra

    nodes = torch.cat([a[None], b[None], codes]).double().cpu()
    lengths = torch.cdist(nodes, nodes)
    costs = (lengths / lengths.max().clamp_min(1e-30)) ** power
    # SciPy takes a cost below 1e-8 for a missing edge, but an end may coincide with a training code.
    _, predecessors = dijkstra(costs.clamp_min(1e-7).numpy(), indices=0, return_predecessors=True)
    visited = [1]
    while visited[-1] != 0:
        visited.append(int(predecessors[visited[-1]]))
    return nodes[visited[::-1]].to(a)


def resampled(polyline: Tensor, count: int) -> Tensor:
    """`count` points on a polyline (k, L), equally spaced along it."""
    lengths = (polyline[1:] - polyline[:-1]).norm(dim=1)
    along = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    wanted = torch.linspace(0.0, 1.0, count, device=polyline.device) * along[-1]
    after = torch.searchsorted(along, wanted, right=True).clamp(1, len(polyline) - 1)
    share = ((wanted - along[after - 1]) / lengths[after - 1].clamp_min(1e-30)).clamp(0.0, 1.0)
    return polyline[after - 1] + (polyline[after] - polyline[after - 1]) * share[:, None]
