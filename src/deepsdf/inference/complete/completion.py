"""The whole shape from a partial scan: code and pose together, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
import trimesh
from scipy.spatial import KDTree
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import Normalization
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.alignment import Alignment, Freedom
from deepsdf.inference.complete.options import Axis, CompletionOptions, Pose
from deepsdf.inference.complete.pose_search import extent, free_scales, start_states
from deepsdf.inference.complete.residuals import Linear, Observed, ScanProblem, State
from deepsdf.inference.complete.residuals import field as decode

if TYPE_CHECKING:
    from deepsdf.inference.space import Shape, ShapeSpace

FIELD_ERROR = 4e-3
"""Standard deviation, unit frame, of what a space cannot say about a shape; the scan's noise comes on top."""

SURFACE = 0.015
"""So near, unit frame, a point is on a surface, whatever the noise."""

BADLY = 0.5
"""Share of a scan's points that lie on the completed surface: below it the space does not explain the scan."""

UNLIKELY = 2.5
"""How far the code lies from the training codes, see `Completion.unlikeliness`: above it the scan was explained by a
shape that is none of the space's."""

ALIKE = 64.0
"""So many points count as one in the posterior: what a space cannot say is alike over patches of a surface, so their
errors are not independent. Measured, see docs/completion.md."""

_WIDTHS = [0.1, 0.06, 0.036, 0.022]  # of the robust loss, a step each: outliers are let go one after the other
_NARROWEST = 0.013
_STEPS = 25
_MOST_NOISE = 0.1
_OUTLYING = 5.0  # thicknesses, of those of the best quarter, at which a point is asked half as often
_LEFT_OVER = 0.25, 0.3186  # a quantile of |error|, below most outliers, and what it is of a Gaussian of σ = 1
_USUAL = 0.85  # radius of a scan, unit frame, before its scale is found
_TOO_FAR = 1.2  # the unit frame's shapes lie within 1
_HYPOTHESES = ((5, 128, 4), (2, 256, 3))  # how many are followed, with how many points, for how many steps
_OF_A_KNOWN_POSE = ((2, 128, 4),)
_SPREAD_AT = 2000  # vertices whose spread is computed; between them it is interpolated


@dataclass(frozen=True, eq=False)
class Completion:
    """A shape of a space that explains a scan, and where it stands.

    Attributes:
        space: the shape space.
        scan: what is explained.
        code: (L,).
        to_unit: (4, 4) float64, the similarity from the scan's frame to the unit frame.
        noise: standard deviation of the scan's points that the fit took, unit frame.
        distances: (n,) of the scan's points to the completed surface, unit frame, as the field tells.
        steps: of the last stage of the fit.
        converged: false where the steps ran out first.
        objectives: of the last hypotheses about start and pose, best first.
        precision: (k, k), the inverse covariance of whitened code and pose: the posterior.
        freedom: what of the pose was free.
    """

    space: ShapeSpace
    scan: Scan
    code: Tensor
    to_unit: np.ndarray
    noise: float
    distances: np.ndarray
    steps: int
    converged: bool
    objectives: list[float]
    precision: Tensor = field(repr=False)
    freedom: Freedom = field(repr=False)

    @property
    def shape(self) -> Shape:
        """The completed shape, unit frame."""
        return self.space.shape(self.code)

    @property
    def scale(self) -> float:
        """Unit lengths per length of the scan's frame."""
        return float(np.cbrt(np.linalg.det(self.to_unit[:3, :3])))

    @property
    def residual(self) -> float:
        """Median distance of the scan's points to the completed surface, unit frame."""
        return float(np.median(self.distances))

    @property
    def unlikeliness(self) -> float:
        """Distance of the code from the mean of the training codes, standard deviations a direction: 1 is usual."""
        return float(self.space.prior.whiten(self.code).square().mean().sqrt())

    @property
    def tolerance(self) -> float:
        """Within it a point of the scan is on a surface, unit frame: by the scan's own noise, not the fit's."""
        return min(0.05, max(SURFACE, 3.0 * self.scan.noise * self.scale))

    @property
    def explained(self) -> float:
        """Share of the scan's points on the completed surface. Below `BADLY` it is of another kind than the space."""
        return float(np.mean(self.distances <= self.tolerance))

    def mesh(self, meshing: Meshing | int = PREVIEW) -> trimesh.Trimesh:
        """The completed surface in the scan's frame.

        Its `vertex_attributes` are `seen`, uint8: 1 near points of the scan that face the same way, 0 guessed; and
        `spread`, float32: the posterior's standard deviation across the surface, lengths of the scan's frame.

        Args:
            meshing: options in the unit frame, or the resolution.
        Raises:
            NoSurfaceError: the code has no surface.
        """
        unit = self.shape.mesh(meshing)
        vertices = np.asarray(unit.vertices)
        seen, spread = self.seen(unit), self.spread(vertices) / self.scale
        back = np.linalg.inv(self.to_unit)
        mesh = trimesh.Trimesh(vertices @ back[:3, :3].T + back[:3, 3], np.asarray(unit.faces), process=False)
        mesh.vertex_attributes.update(seen=seen.astype(np.uint8), spread=spread.astype(np.float32))
        return mesh

    def seen(self, unit: trimesh.Trimesh) -> np.ndarray:
        """(v,) bool: vertices of the completed mesh, unit frame, that points of the scan lie at."""
        scan = self.scan.moved(self.to_unit)
        tree = KDTree(scan.points)
        gaps = tree.query(scan.points, k=2)[0][:, 1]
        reach = max(self.tolerance, 3.0 * float(np.median(gaps)))
        distance, near = tree.query(unit.vertices, workers=-1)
        facing = np.einsum("vi,vi->v", np.asarray(unit.vertex_normals), scan.normals[near]) > 0
        return (distance <= reach) & (facing | ~scan.oriented[near])

    def spread(self, points: np.ndarray) -> np.ndarray:
        """(n,) standard deviations of the surface across itself at points (n, 3) of it, unit frame."""
        some = points[:: max(1, len(points) // _SPREAD_AT)]
        device = self.code.device
        state, problem = self._state(), self._problem()
        _, jacobian = problem.jacobian(state, torch.as_tensor(some, dtype=torch.float32, device=device)[None])
        factor = torch.linalg.cholesky(self.precision.double())
        solved = torch.linalg.solve_triangular(factor, jacobian[0].double().T, upper=False)
        found = torch.linalg.vector_norm(solved, dim=0).cpu().numpy()
        distance, near = KDTree(some).query(points, k=min(3, len(some)), workers=-1)
        distance, near = distance.reshape(len(points), -1), near.reshape(len(points), -1)
        weight = 1.0 / (distance + 1e-6)
        return (weight * found[near]).sum(axis=1) / weight.sum(axis=1)

    def draw(self, count: int, *, seed: int = 0) -> list[Completion]:
        """Other completions that explain the scan as well: draws from the posterior (its Gaussian approximation)."""
        white = torch.randn(
            count, len(self.precision), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        factor = torch.linalg.cholesky(self.precision.double().cpu())
        steps = torch.linalg.solve_triangular(factor.T, white.T, upper=True).T.float().to(self.code.device)
        drawn = []
        for step in steps:
            state = self._problem().step(self._state(), step[None])
            code = self.space.prior.colour(state.place[0])
            matrix = state.alignment.matrices()[0]
            distances = _distances(self.space, code, matrix, self.scan)
            drawn.append(replace(self, code=code, to_unit=matrix, distances=distances))
        return drawn

    def _state(self) -> State:
        place = self.space.prior.whiten(self.code)[None]
        return State(place, Alignment.of(self.to_unit[None], self.code.device))

    def _problem(self) -> ScanProblem:
        points = torch.as_tensor(self.scan.points, dtype=torch.float32, device=self.code.device)
        observed = Observed(points, points, points[:, 0] > 0, points[:0])
        return ScanProblem(
            self.space.decoder,
            self.space.prior,
            observed,
            self.freedom,
            CompletionOptions().eta,
            self.noise,
            1.0,
            self.scale,
        )


def badly_explained(found: Completion) -> str | None:
    """In words, where a space does not explain a scan."""
    if found.explained >= BADLY and found.unlikeliness <= UNLIKELY:
        return None
    return (
        f"the space explains the scan badly: {found.explained:.0%} of its points lie within {found.tolerance:.3f} of "
        f"the completed surface, unit frame ({BADLY:.0%} are asked for), at a median of {found.residual:.3f}; and the "
        f"shape lies {found.unlikeliness:.1f} standard deviations from the training shapes (up to {UNLIKELY}: usual). "
        "Is the scan of another class of shapes, in another frame (--pose), or turned otherwise (--up, --any-way-up)?"
    )


def complete(
    space: ShapeSpace, scan: Scan, options: CompletionOptions, *, normalization: Normalization | None = None
) -> Completion:
    """See `ShapeSpace.complete`."""
    pose, noise = options.pose, options.noise
    base = np.eye(4)
    if normalization is not None:
        base[:3, :3] *= normalization.scale
        base[:3, 3] = normalization.offset * normalization.scale
    _check_frame(scan.moved(base), pose, known=normalization is not None)
    scale = float(np.cbrt(np.linalg.det(base[:3, :3])))
    if pose == "similarity":
        scale = _USUAL / extent(scan, np.eye(4))[1]
    freedom = Freedom(pose, get_args(Axis).index(options.up), free_scales(scan))
    sigma = _sigma((scan.noise if noise is None else noise) * scale)
    observed = observe(scan, options.points, options.eta / scale, options.seed, space.device)
    problem = ScanProblem(space.decoder, space.prior, observed, freedom, options.eta, sigma, options.free_space, scale)
    codes = space.prior.whiten(space.trained_codes)
    stages = _HYPOTHESES if freedom.size else _OF_A_KNOWN_POSE
    rough = replace(problem, rough=True)
    state = start_states(rough, scan, base, codes, any_way_up=options.any_way_up, count=stages[0][0])
    objectives = torch.zeros(1)
    widths = list(_WIDTHS)
    for count, few, steps in stages:
        state = state[:count]
        part = replace(rough, observed=observed.some(few, 2 * few))
        state, end, _, _ = part.minimise(state, widths, steps)
        order = end.objective.argsort()
        state, objectives, widths = state[order], end.objective[order], widths[-1:]
    state = state[:1]
    state, end, steps, converged, sigma = _finish(problem, state, noise)
    code = space.prior.colour(state.place[0])
    matrix = state.alignment.matrices()[0]
    return Completion(
        space=space,
        scan=scan,
        code=code,
        to_unit=matrix,
        noise=sigma,
        distances=_distances(space, code, matrix, scan),
        steps=steps,
        converged=bool(converged),
        objectives=objectives.tolist(),
        precision=_posterior(end.hessian[0], len(code)),
        freedom=freedom,
    )


def _finish(problem: ScanProblem, state: State, noise: float | None) -> tuple[State, Linear, int, Tensor, float]:
    """The best hypothesis with all points; where the noise is not told, once more with what is left over."""
    if problem.freedom.pose == "similarity":
        problem = replace(problem, scale=float(state.alignment.scale[0]))
        if noise is not None:
            problem = replace(problem, noise=_sigma(noise * problem.scale))
    state, end, steps, converged = problem.minimise(state, [_width(problem.noise)], _STEPS)
    if noise is not None:
        return state, end, steps, converged, problem.noise
    placed = state.alignment.place(problem.observed.points)
    with torch.no_grad():
        errors = decode(problem.decoder, problem.prior.colour(state.place), placed).abs()
    share, of_one = _LEFT_OVER
    sigma = float((errors.quantile(share) / of_one).clamp(FIELD_ERROR, _MOST_NOISE))
    problem = replace(problem, noise=sigma)
    state, end, more, converged = problem.minimise(state, [_width(sigma)], _STEPS)
    return state, end, steps + more, converged, sigma


def _posterior(hessian: Tensor, length: int) -> Tensor:
    prior = torch.zeros_like(hessian)
    prior[:length, :length] = torch.eye(length, device=hessian.device)
    # A little on the diagonal: a pose that nothing holds has a covariance, too.
    return (hessian - prior) / ALIKE + prior + 1e-3 * torch.eye(len(hessian), device=hessian.device)


def nearest_training_shape(
    space: ShapeSpace,
    scan: Scan,
    options: CompletionOptions = CompletionOptions(),
) -> int:
    """The training code that explains a scan of the unit frame best, by what a fit would ask: a baseline."""
    codes = space.prior.whiten(space.codes)
    observed = observe(scan, options.points, options.eta, options.seed, space.device)
    sigma = _sigma(scan.noise)
    problem = ScanProblem(space.decoder, space.prior, observed, Freedom("none"), options.eta, sigma, 1.0)
    here = Alignment.of(np.eye(4)[None], space.device)
    trained = space.is_trained.tolist()
    unfit = torch.full((1,), torch.inf, device=space.device)
    # The prior says nothing here: every training shape is as likely as any other.
    losses = [
        problem.objective(State(code[None], here), _width(sigma)) - 0.5 * code.square().sum() if fit else unfit
        for code, fit in zip(codes, trained, strict=True)
    ]
    return int(torch.cat(losses).argmin())


def observe(scan: Scan, points: int, near: float, seed: int, device: torch.device) -> Observed:
    """What a fit asks of a scan: some of its points, and points of the space that the cameras saw through.

    Args:
        near: free points keep this distance from the surface, the scan's frame.
    """
    rng = np.random.default_rng(seed)
    chance = _trust(scan)
    rows = rng.choice(len(scan), min(points, len(scan)), replace=False, p=chance)
    extent = float(np.linalg.norm(np.ptp(scan.points, axis=0)))
    free = []
    with_camera = np.flatnonzero(np.isfinite(scan.cameras).all(axis=1))
    if len(with_camera):
        at = rng.choice(with_camera, 2 * points, p=chance[with_camera] / chance[with_camera].sum())
        way = scan.cameras[at] - scan.points[at]
        length = np.linalg.norm(way, axis=1, keepdims=True).clip(1e-12)
        # Most of them near the surface: farther off there is seldom anything.
        along = near + rng.random((len(at), 1)) ** 2 * (np.minimum(length, extent) - near).clip(0)
        free.append(scan.points[at] + way / length * along)
    if len(scan.empty):
        rays = scan.empty[rng.choice(len(scan.empty), 2 * points)]
        # About where they pass the outline: there a shape that is too thick is met first.
        along = (rays[:, 6] + 0.05 * extent * rng.standard_normal(len(rays))).clip(0)
        free.append(rays[:, :3] + along[:, None] * rays[:, 3:6])
    mixed = rng.permutation(np.concatenate([*free, np.zeros((0, 3))]))

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

    oriented = torch.as_tensor(scan.oriented[rows], device=device)
    return Observed(tensor(scan.points[rows]), tensor(scan.normals[rows]), oriented, tensor(mixed))


def _trust(scan: Scan) -> np.ndarray:
    """(n,), how often each point is asked, 1 in sum: outliers, whose neighbours lie in no plane, seldom."""
    usual = scan.noise + 1e-9 * float(np.ptp(scan.points, axis=0).max())
    trust = 1.0 / (1.0 + (scan.thickness / (_OUTLYING * usual)) ** 4)
    return trust / trust.sum()


def _sigma(noise: float) -> float:
    return float(np.clip(np.hypot(noise, FIELD_ERROR), FIELD_ERROR, _MOST_NOISE))


def _width(noise: float) -> float:
    return max(_NARROWEST, 3.0 * noise)


def _distances(space: ShapeSpace, code: Tensor, matrix: np.ndarray, scan: Scan) -> np.ndarray:
    return np.abs(space.shape(code).sdf(scan.points @ matrix[:3, :3].T + matrix[:3, 3])).astype(np.float64)


def _check_frame(placed: Scan, pose: Pose, *, known: bool) -> None:
    """A scan whose size is taken as given must have the size of the unit frame's shapes.

    Args:
        placed: in the unit frame, as far as it is known.
    """
    if pose == "similarity":
        return
    movable = pose in ("yaw", "rigid")
    middle = np.median(placed.points, axis=0) if movable else np.zeros(3)
    reach = float(np.median(np.linalg.norm(placed.points - middle, axis=1)))
    size = float(np.linalg.norm(np.subtract(*np.quantile(placed.points, [0.98, 0.02], axis=0))))
    if reach > _TOO_FAR or size < 0.02:
        told = "by its normalization it lies" if known else "its points lie"
        raise InputError(
            f"the scan is not in the unit frame: {told} {reach:.3g} from the {'middle' if movable else 'origin'} at "
            f"the median, and it is {size:.3g} long; shapes of a space lie in the unit sphere. Give the shape's "
            "normalization (--normalization), or let pose and scale be found (--pose similarity)"
        )
