"""The whole shape from a partial scan: code, pose and their posterior."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import get_args

import numpy as np
import torch
import trimesh
from scipy.spatial import KDTree
from torch import Tensor

from deepsdf.devices import fast_bfloat16
from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import Normalization
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.alignment import Alignment, Freedom
from deepsdf.inference.complete.observation import observe
from deepsdf.inference.complete.options import Axis, CompletionOptions, Pose
from deepsdf.inference.complete.pose_search import COARSE_WIDTH, middle_and_radius, scale_range, start_states
from deepsdf.inference.complete.posed_field import PosedField, State
from deepsdf.inference.complete.residuals import ScanProblem
from deepsdf.inference.posterior import GaussianPosterior
from deepsdf.inference.shape import MAX_UNLIKELINESS, Shape, TrainedCodes, unlikeliness
from deepsdf.solvers.levenberg_marquardt import STEPS_RAN_OUT, Minimum

FIELD_ERROR = 4e-3
"""Standard deviation of the completed surface from the true one where the space cannot represent the shape exactly,
unit frame. The noise of the scan is added to it."""

MIN_TOLERANCE, MAX_TOLERANCE = 0.015, 0.05
"""Bounds of `Completion.tolerance`, unit frame. The lower is nearly four times `FIELD_ERROR`."""

MIN_EXPLAINED = 0.5
"""Fraction of a scan's points on the completed surface below which a completion is reported as failed."""

DESIGN_EFFECT = 64.0
"""Number of observations that count as one in the posterior: errors of a space are similar over patches of a surface,
so neighbouring observations are not independent. Measured: docs/completion.md compares the posterior with the actual
errors. `fit.posterior.design_effect` estimates the same quantity for code fits, from the errors of thousands of
samples; the few hundred points here, most of them in different cells, do not suffice for that."""

POSE_PRECISION = 1e-3
"""Added to every diagonal entry of the precision, so that a direction of the pose that the scan does not determine has
a finite variance."""

WIDTHS = tuple(COARSE_WIDTH * 0.6**k for k in range(4))
"""Widths of the robust loss in the first steps, unit frame: from 0.1 to 0.022, outliers lose their influence
gradually."""

MIN_WIDTH = COARSE_WIDTH * 0.6**4
"""Least final width: the next of this sequence, and about three times `FIELD_ERROR`."""

MAX_NOISE = COARSE_WIDTH
"""Largest noise, unit frame. Scans with more do not determine a shape."""

STAGES = ((5, 128, 4), (2, 256, 3))
"""Hypotheses, surface points and steps of each stage before the last, which refines the best hypothesis with all
points."""

STAGES_OF_KNOWN_POSE = ((2, *STAGES[0][1:]),)
"""The same with a known pose: only the start of the code is uncertain."""

FINAL_STEPS = 25
"""Maximum number of steps of the last stage."""

START_RADIUS = 0.85
"""Radius of a scan of unknown scale in the unit frame, at which its noise and distances are converted before the
fit."""

SPREAD_POINTS = 2000
"""Number of points at which the spread of a mesh is computed, at least; it varies slowly over a surface."""


@dataclass(frozen=True, eq=False)
class Completion:
    """A shape of a space that explains a scan, with its pose.

    Attributes:
        space: the shape space.
        scan: the scan.
        code: (L,).
        to_unit: (4, 4) float64, similarity from the scan's frame to the unit frame.
        noise: standard deviation of the scan's points assumed by the fit, unit frame.
        distances: (n,), absolute values of the field at the scan's points, unit frame.
        steps: steps of the last stage of the fit.
        converged: False if the steps ran out.
        objectives: of the hypotheses about code and pose before the last stage, in ascending order.
        posterior: of the whitened code and the free part of the pose, in this order (see `Freedom`).
        freedom: which part of the pose was free.
        centre: (3,), centre of the pose's rotation and scaling in the posterior, the scan's frame.
    """

    space: TrainedCodes
    scan: Scan
    code: Tensor
    to_unit: np.ndarray
    noise: float
    distances: np.ndarray
    steps: int
    converged: bool
    objectives: list[float]
    posterior: GaussianPosterior = field(repr=False)
    freedom: Freedom = field(repr=False)
    centre: Tensor = field(repr=False)

    @property
    def shape(self) -> Shape:
        """The completed shape, unit frame."""
        return Shape(self.space.decoder, self.code)

    @property
    def scale(self) -> float:
        """Unit-frame length per length in the scan's frame."""
        return float(np.cbrt(np.linalg.det(self.to_unit[:3, :3])))

    @property
    def residual(self) -> float:
        """Median distance of the scan's points to the completed surface, unit frame."""
        return float(np.median(self.distances))

    @property
    def unlikeliness(self) -> float:
        """Distance of the code from the mean of the training codes, see `inference.shape.unlikeliness`."""
        return unlikeliness(self.space.prior, self.code)

    @property
    def tolerance(self) -> float:
        """Distance within which a scan point counts as on the surface, unit frame: three standard deviations of the
        scan's own noise, which a bad fit does not raise, within `MIN_TOLERANCE` and `MAX_TOLERANCE`."""
        return min(MAX_TOLERANCE, max(MIN_TOLERANCE, 3.0 * self.scan.noise * self.scale))

    @property
    def explained(self) -> float:
        """Fraction of the scan's points within `tolerance` of the completed surface."""
        return float(np.mean(self.distances <= self.tolerance))

    def mesh(self, meshing: Meshing | int = PREVIEW) -> trimesh.Trimesh:
        """The completed surface in the scan's frame.

        Its `vertex_attributes` are `seen`, uint8: 1 near scan points that face the same way, else 0; and `spread`,
        float32: the posterior standard deviation along the normal, in the scan's frame.

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
        """(v,) bool: vertices of the completed mesh, unit frame, with scan points nearby that face the same way."""
        scan = self.scan.moved(self.to_unit)
        tree = KDTree(scan.points)
        gaps = tree.query(scan.points, k=2)[0][:, 1]
        reach = max(self.tolerance, 3.0 * float(np.median(gaps)))
        distance, nearest = tree.query(unit.vertices, workers=-1)
        facing = np.einsum("vi,vi->v", np.asarray(unit.vertex_normals), scan.normals[nearest]) > 0
        return (distance <= reach) & (facing | ~scan.oriented[nearest])

    def spread(self, points: np.ndarray) -> np.ndarray:
        """Posterior standard deviation of the surface along its normal, unit frame.

        Computed at up to about 4000 of the points, and interpolated in between.

        Args:
            points: (n, 3), on the completed surface, unit frame.
        Returns:
            (n,).
        """
        some = points[:: max(1, len(points) // SPREAD_POINTS)]
        at = torch.as_tensor(some, dtype=torch.float32, device=self.code.device)
        _, jacobian = self._posed().jacobian(self._state(), at[None])
        std = self.posterior.std(jacobian[0]).cpu().numpy()
        distance, nearest = KDTree(some).query(points, k=min(3, len(some)), workers=-1)
        distance, nearest = distance.reshape(len(points), -1), nearest.reshape(len(points), -1)
        weight = 1.0 / (distance + 1e-6)
        return (weight * std[nearest]).sum(axis=1) / weight.sum(axis=1)

    def draw(self, count: int, *, seed: int = 0) -> list[Completion]:
        """Other completions that explain the scan equally well: samples of the posterior (its Gaussian
        approximation)."""
        steps = self.posterior.draw(count, seed=seed).float().to(self.code.device)
        posed, state = self._posed(), self._state()
        samples = []
        for step in steps:
            moved = posed.retract(state, step[None])
            code = self.space.prior.colour(moved.whitened[0])
            matrix = moved.alignment.matrices()[0]
            distances = _distances(Shape(self.space.decoder, code), matrix, self.scan)
            samples.append(replace(self, code=code, to_unit=matrix, distances=distances))
        return samples

    def _state(self) -> State:
        whitened = self.space.prior.whiten(self.code)[None]
        return State(whitened, Alignment.of(self.to_unit[None], self.code.device))

    def _posed(self) -> PosedField:
        return PosedField(self.space.decoder, self.space.prior, self.freedom, self.centre)


def misfit(completion: Completion) -> str | None:
    """Why a completion does not explain its scan, for the user. None if it does."""
    if completion.explained >= MIN_EXPLAINED and completion.unlikeliness <= MAX_UNLIKELINESS:
        return None
    return (
        f"the space does not explain the scan well: {completion.explained:.0%} of its points lie within "
        f"{completion.tolerance:.3f} of the completed surface (unit frame; expected at least {MIN_EXPLAINED:.0%}), at "
        f"a median distance of {completion.residual:.3f}, and the shape lies {completion.unlikeliness:.1f} standard "
        f"deviations from the training shapes (expected at most {MAX_UNLIKELINESS}). Check that the scan is of the "
        "same class of shapes, in the right frame (--pose) and orientation (--up, --any-way-up)"
    )


def complete(
    space: TrainedCodes, scan: Scan, options: CompletionOptions, *, normalization: Normalization | None = None
) -> Completion:
    """See `ShapeSpace.complete`."""
    pose, noise = options.pose, options.noise
    base = np.eye(4)
    if normalization is not None:
        base[:3, :3] *= normalization.scale
        base[:3, 3] = normalization.offset * normalization.scale
    _check_frame(scan.moved(base), pose, normalized=normalization is not None)
    scale = float(np.cbrt(np.linalg.det(base[:3, :3])))
    if pose == "similarity":
        scale = START_RADIUS / middle_and_radius(scan, np.eye(4))[1]
    freedom = Freedom(pose, get_args(Axis).index(options.up), scale_range(scan))
    sigma = _total_noise((scan.noise if noise is None else noise) * scale)
    observed = observe(scan, options.points, options.eta / scale, options.seed, space.device)
    problem = ScanProblem(space.decoder, space.prior, observed, freedom, options.eta, sigma, options.free_space, scale)
    start, objectives = _best_hypothesis(problem, space, scan, base, any_way_up=options.any_way_up)
    problem, end, steps = _refined(problem, start, noise)
    code = space.prior.colour(end.state.whitened[0])
    matrix = end.state.alignment.matrices()[0]
    return Completion(
        space=space,
        scan=scan,
        code=code,
        to_unit=matrix,
        noise=problem.noise,
        distances=_distances(Shape(space.decoder, code), matrix, scan),
        steps=steps,
        converged=int(end.reason[0]) != STEPS_RAN_OUT,
        objectives=objectives,
        posterior=_posterior(problem, end.state),
        freedom=freedom,
        centre=problem.posed.centre,
    )


def _best_hypothesis(
    problem: ScanProblem, space: TrainedCodes, scan: Scan, base: np.ndarray, *, any_way_up: bool
) -> tuple[State, list[float]]:
    """The best state after the coarse stages, and the objectives of all states of the last of them."""
    stages = STAGES if problem.freedom.size else STAGES_OF_KNOWN_POSE
    coarse = replace(problem, bfloat16=fast_bfloat16(space.device))
    codes = space.prior.whiten(space.trained_codes)
    state = start_states(coarse, scan, base, codes, any_way_up=any_way_up, count=stages[0][0])
    objectives = torch.zeros(1)
    widths = WIDTHS
    for count, points, steps in stages:
        part = replace(coarse, observed=problem.observed.first(points, 2 * points))
        end = part.minimise(state[:count], widths, steps)
        order = end.model.value.argsort()
        state, objectives, widths = end.state[order], end.model.value[order], WIDTHS[-1:]
    return state[:1], objectives.tolist()


def _refined(problem: ScanProblem, state: State, noise: float | None) -> tuple[ScanProblem, Minimum[State], int]:
    """The best hypothesis fitted to all points; if the noise is unknown, again with the noise of the residuals.

    Returns:
        The last problem, its minimum, and the number of steps of both fits.
    """
    if problem.freedom.pose == "similarity":
        problem = replace(problem, scale=float(state.alignment.scale[0]))
        if noise is not None:
            problem = replace(problem, noise=_total_noise(noise * problem.scale))
    first = problem.minimise(state, [_width(problem.noise)], FINAL_STEPS)
    if noise is not None:
        return problem, first, int(first.steps.max())
    problem = replace(problem, noise=_residual_noise(problem, first.state))
    second = problem.minimise(first.state, [_width(problem.noise)], FINAL_STEPS)
    return problem, second, int(first.steps.max() + second.steps.max())


@torch.no_grad()
def _residual_noise(problem: ScanProblem, state: State) -> float:
    """Standard deviation of the residuals, by the lower quartile of their sizes: most outliers lie above it."""
    points = state.alignment.apply(problem.observed.points)
    quartile = problem.posed.values(state, points).abs().quantile(0.25)
    # |r| of a Gaussian is below its lower quartile with probability ¼ if r is below that value with probability ½ + ⅛.
    return float((quartile / NormalDist().inv_cdf(0.625)).clamp(FIELD_ERROR, MAX_NOISE))


def _posterior(problem: ScanProblem, state: State) -> GaussianPosterior:
    curvature = problem.linearise(state, _width(problem.noise)).curvature[0]
    code_length = state.whitened.shape[1]
    prior = torch.zeros_like(curvature)
    prior[:code_length, :code_length] = torch.eye(code_length, device=curvature.device)
    ridge = POSE_PRECISION * torch.eye(len(curvature), device=curvature.device)
    return GaussianPosterior.of(prior + ridge, curvature - prior, 1.0 / DESIGN_EFFECT)


def nearest_training_shape(space: TrainedCodes, scan: Scan, options: CompletionOptions = CompletionOptions()) -> int:
    """Number of the training code that explains a scan in the unit frame best: a baseline of completion.

    Compares the training shapes by the data term of a completion's objective; every training shape is equally likely.
    """
    codes = space.prior.whiten(space.codes)
    observed = observe(scan, options.points, options.eta, options.seed, space.device)
    sigma = _total_noise(scan.noise)
    problem = ScanProblem(space.decoder, space.prior, observed, Freedom("none"), options.eta, sigma, 1.0)
    unit = Alignment.of(np.eye(4)[None], space.device)
    untrained = torch.full((1,), torch.inf, device=space.device)
    costs = [
        problem.data_cost(State(code[None], unit), _width(sigma)) if trained else untrained
        for code, trained in zip(codes, space.is_trained.tolist(), strict=True)
    ]
    return int(torch.cat(costs).argmin())


def _total_noise(noise: float) -> float:
    """The noise of a scan and of the field together, unit frame."""
    return float(np.clip(np.hypot(noise, FIELD_ERROR), FIELD_ERROR, MAX_NOISE))


def _width(noise: float) -> float:
    """Final width of the robust loss: three standard deviations, within which nearly all inliers lie."""
    return max(MIN_WIDTH, 3.0 * noise)


def _distances(shape: Shape, matrix: np.ndarray, scan: Scan) -> np.ndarray:
    return np.abs(shape.sdf(scan.points @ matrix[:3, :3].T + matrix[:3, 3])).astype(np.float64)


def _check_frame(scan: Scan, pose: Pose, *, normalized: bool) -> None:
    """Check that a scan whose scale is not estimated has the size and, without a pose, the position of a unit-frame
    shape.

    Args:
        scan: in the unit frame, if it is known.
    Raises:
        InputError: it has not.
    """
    if pose == "similarity":
        return
    movable = pose in ("yaw", "rigid")
    middle = np.median(scan.points, axis=0) if movable else np.zeros(3)
    reach = float(np.median(np.linalg.norm(scan.points - middle, axis=1)))
    size = float(np.linalg.norm(np.subtract(*np.quantile(scan.points, [0.98, 0.02], axis=0))))
    # Shapes lie within 1 of the origin; half of the points beyond 1.2, or all within 0.02, are in another unit.
    if reach > 1.2 or size < 0.02:
        frame = "after normalization" if normalized else "without normalization"
        raise InputError(
            f"the scan is not in the unit frame: {frame}, its points lie at a median distance of {reach:.3g} from the "
            f"{'middle' if movable else 'origin'}, and it is {size:.3g} long; expected a scan inside the unit sphere. "
            "Pass the shape's normalization (--normalization), or estimate pose and scale (--pose similarity)"
        )
