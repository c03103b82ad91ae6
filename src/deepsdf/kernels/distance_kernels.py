# type: ignore (the whole file: Warp's compiler checks these types, Python's checkers cannot)
"""Warp kernels of geometric queries: closest points, signs, rays and self-intersections.

Import only through `launch.compiled_kernels`, after Warp is initialised.
"""

# Warp treats a bare 0.0 as a constant, which cannot be reassigned in a loop: loop variables start as wp.float32(0.0).
# Warp reads annotations as values, so there is no `from __future__ import annotations` here.
import warp as wp

wp.set_module_options({"enable_backward": False})  # no gradients are needed; halves the compile time

FAR = wp.constant(1.0e9)  # larger than any distance in a frame of unit size

# Bounded search. Kernels with `chain` process that many neighbouring points in order. If c is the closest point of the
# previous point, the next one p has a face within |p - c|, so only faces within that radius need to be searched:
#
#        surface ----c-----------        |p - c| >= distance of p
#                    |\
#           previous o  o p
#
# The radius is enlarged by 1e-3 and 1e-5 against float32 rounding; if nothing is found, the search is repeated
# unbounded.


@wp.func
def _feature_normal(
    faces: wp.array(dtype=wp.int32),
    face_normals: wp.array(dtype=wp.vec3),
    edge_normals: wp.array(dtype=wp.vec3),
    vertex_normals: wp.array(dtype=wp.vec3),
    face: int,
    u: float,
    v: float,
):
    """The pseudonormal of the corner, edge or face on which the point with barycentric coordinates (u, v, w) lies.

               2 (w = 1)
              . .
    v = 0    .   .    u = 0         edge 0-1 (w = 0) is row 3 f, edge 1-2 (u = 0) row 3 f + 1,
            .     .                 edge 2-0 (v = 0) row 3 f + 2
    (u = 1) 0 . . . 1 (v = 1)
    """
    tiny = 1.0e-6  # a few float32 roundings; corners are tested last because they are also on two edges
    w = 1.0 - u - v
    normal = face_normals[face]
    if u < tiny:
        normal = edge_normals[3 * face + 1]
    if v < tiny:
        normal = edge_normals[3 * face + 2]
    if w < tiny:
        normal = edge_normals[3 * face]
    if u > 1.0 - tiny:
        normal = vertex_normals[faces[3 * face]]
    if v > 1.0 - tiny:
        normal = vertex_normals[faces[3 * face + 1]]
    if w > 1.0 - tiny:
        normal = vertex_normals[faces[3 * face + 2]]
    return normal


@wp.kernel
def closest_kernel(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    chain: int,
    distance: wp.array(dtype=float),
    face_of: wp.array(dtype=wp.int32),
    closest: wp.array(dtype=wp.vec3),
):
    """Closest points on the mesh. `chain` points per thread, each bounding the next search."""
    start = wp.tid() * chain
    bound = wp.float32(FAR)
    last = wp.vec3(0.0, 0.0, 0.0)
    for k in range(chain):
        i = start + k
        if i < points.shape[0]:
            p = points[i]
            if k > 0:
                bound = 1.001 * wp.length(p - last) + 1.0e-5
            q = wp.mesh_query_point_no_sign(mesh, p, bound)
            if not q.result:
                q = wp.mesh_query_point_no_sign(mesh, p, FAR)
            c = wp.mesh_eval_position(mesh, q.face, q.u, q.v)
            bound = wp.length(c - p)
            last = c
            distance[i] = bound
            face_of[i] = q.face
            closest[i] = c


@wp.kernel
def normal_sign_kernel(
    mesh: wp.uint64,
    faces: wp.array(dtype=wp.int32),
    face_normals: wp.array(dtype=wp.vec3),
    edge_normals: wp.array(dtype=wp.vec3),
    vertex_normals: wp.array(dtype=wp.vec3),
    points: wp.array(dtype=wp.vec3),
    chain: int,
    distance: wp.array(dtype=float),
    face_of: wp.array(dtype=wp.int32),
):
    """Distance with the sign of the angle-weighted pseudonormal of the closest feature (Baerentzen & Aanaes 2005)."""
    start = wp.tid() * chain
    bound = wp.float32(FAR)
    last = wp.vec3(0.0, 0.0, 0.0)
    for k in range(chain):
        i = start + k
        if i < points.shape[0]:
            p = points[i]
            if k > 0:
                bound = 1.001 * wp.length(p - last) + 1.0e-5
            q = wp.mesh_query_point_no_sign(mesh, p, bound)
            if not q.result:
                q = wp.mesh_query_point_no_sign(mesh, p, FAR)
            last = wp.mesh_eval_position(mesh, q.face, q.u, q.v)
            offset = p - last
            bound = wp.length(offset)
            normal = _feature_normal(faces, face_normals, edge_normals, vertex_normals, q.face, q.u, q.v)
            distance[i] = wp.where(wp.dot(offset, normal) > 0.0, bound, -bound)
            face_of[i] = q.face


@wp.kernel
def winding_sign_kernel(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    accuracy: float,
    constant_in_balls: int,
    chain: int,
    distance: wp.array(dtype=float),
    face_of: wp.array(dtype=wp.int32),
):
    """Distance with the sign of the winding number, threshold one half (Barill et al. 2018).

    The ball around a point with its distance as radius contains no surface. If the surface is closed, the sign is
    constant in it (`constant_in_balls`), so later points of the chain that lie in the ball inherit it: the winding
    number costs as much as several closest-point searches.
    """
    start = wp.tid() * chain
    bound = wp.float32(FAR)
    center = wp.vec3(0.0, 0.0, 0.0)
    radius = wp.float32(0.0)
    sign = wp.float32(1.0)
    last = wp.vec3(0.0, 0.0, 0.0)
    inherit = wp.bool(False)
    for k in range(chain):
        i = start + k
        if i < points.shape[0]:
            p = points[i]
            if k > 0:
                bound = 1.001 * wp.length(p - last) + 1.0e-5
            q = wp.mesh_query_point_no_sign(mesh, p, bound)
            if not q.result:
                q = wp.mesh_query_point_no_sign(mesh, p, FAR)
            last = wp.mesh_eval_position(mesh, q.face, q.u, q.v)
            bound = wp.length(p - last)
            inherit = False
            if constant_in_balls == 1:
                inherit = wp.length(p - center) < 0.999 * radius  # strictly inside, despite rounding
            if not inherit:
                w = wp.mesh_query_point_sign_winding_number(mesh, p, 1.001 * bound + 1.0e-5, accuracy, 0.5)
                sign = w.sign
            if not inherit or bound > radius:  # a larger ball of the same sign serves more of the next points
                center = p
                radius = bound
            distance[i] = wp.where(sign < 0.0, -bound, bound)
            face_of[i] = q.face


@wp.kernel
def escape_kernel(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    offset: float,
    front: wp.array(dtype=float),
    back: wp.array(dtype=float),
):
    """Shares of rays (directions given around +z) that leave a surface point without a hit, in front and behind."""
    i = wp.tid()
    n = normals[i]
    # any vector not nearly parallel to n gives a tangent frame (s, t, n)
    helper = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(n[0]) > 0.7:
        helper = wp.vec3(0.0, 1.0, 0.0)
    s = wp.normalize(wp.cross(n, helper))
    t = wp.cross(n, s)
    count = directions.shape[0]
    above = wp.int32(0)
    below = wp.int32(0)
    for k in range(count):
        d = directions[k]
        up = d[0] * s + d[1] * t + d[2] * n
        down = d[0] * s + d[1] * t - d[2] * n
        if not wp.mesh_query_ray_anyhit(mesh, points[i] + offset * n, up, FAR):
            above += 1
        if not wp.mesh_query_ray_anyhit(mesh, points[i] - offset * n, down, FAR):
            below += 1
    front[i] = float(above) / float(count)
    back[i] = float(below) / float(count)


@wp.kernel
def stab_kernel(
    mesh: wp.uint64,
    directions: wp.array(dtype=wp.vec3),
    points: wp.array(dtype=wp.vec3),
    chain: int,
    odd: wp.array(dtype=wp.int32),
):
    """Number of the rays from each point that cross the mesh an odd number of times."""
    start = wp.tid() * chain
    for k in range(chain):
        i = start + k
        if i < points.shape[0]:
            count = wp.int32(0)
            for r in range(directions.shape[0]):
                if wp.mesh_query_ray_count_intersections(mesh, points[i], directions[r]) % 2 == 1:
                    count += 1
            odd[i] = count


@wp.kernel
def camera_kernel(
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    hit: wp.array(dtype=wp.int32),
    position: wp.array(dtype=wp.vec3),
    normal: wp.array(dtype=wp.vec3),
):
    """First hit of each ray (face, or -1) and the face normal there, turned towards the origin of the ray."""
    i = wp.tid()
    q = wp.mesh_query_ray(mesh, origins[i], directions[i], FAR)
    hit[i] = -1
    if q.result:
        hit[i] = q.face
        position[i] = origins[i] + q.t * directions[i]
        n = q.normal
        normal[i] = wp.where(wp.dot(n, directions[i]) > 0.0, -n, n)


@wp.func
def _segment_hits(p: wp.vec3, q: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Whether the segment p-q meets the triangle a-b-c (Moeller & Trumbore 1997).

    Touching counts, within 1e-4 of the triangle and of the segment, because parts of CAD models meet exactly.
    """
    slack = -1.0e-4
    # Solves p + t d = a + u e1 + v e2 by Cramer's rule; det = 0 if the segment is parallel to the triangle.
    d = q - p
    e1 = b - a
    e2 = c - a
    h = wp.cross(d, e2)
    det = wp.dot(e1, h)
    hits = wp.bool(False)
    if wp.abs(det) > 1.0e-20:
        inv = 1.0 / det
        s = p - a
        u = wp.dot(s, h) * inv
        g = wp.cross(s, e1)
        v = wp.dot(d, g) * inv
        t = wp.dot(e2, g) * inv
        if u > slack and v > slack and u + v < 1.0 - slack and t > slack and t < 1.0 - slack:
            hits = True
    return hits


@wp.kernel
def self_intersection_kernel(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.int32),
    first: int,
    crossing: wp.array(dtype=wp.int32),
):
    """Marks pairs of faces where an edge of the first meets the second.

    Edges with a corner in common with the second face are skipped: neighbours touch there without crossing. Every pair
    is visited from both faces, so edges of both are tested.
    """
    f = first + wp.tid()
    i0 = faces[3 * f]
    i1 = faces[3 * f + 1]
    i2 = faces[3 * f + 2]
    p0 = points[i0]
    p1 = points[i1]
    p2 = points[i2]
    # candidates: faces whose bounding box overlaps that of face f
    low = wp.min(wp.min(p0, p1), p2)
    high = wp.max(wp.max(p0, p1), p2)
    query = wp.mesh_query_aabb(mesh, low, high)
    g = wp.int32(0)
    while wp.mesh_query_aabb_next(query, g):
        if g != f:
            j0 = faces[3 * g]
            j1 = faces[3 * g + 1]
            j2 = faces[3 * g + 2]
            a = points[j0]
            b = points[j1]
            c = points[j2]
            free0 = i0 != j0 and i0 != j1 and i0 != j2
            free1 = i1 != j0 and i1 != j1 and i1 != j2
            free2 = i2 != j0 and i2 != j1 and i2 != j2
            hits = wp.bool(False)
            if free0 and free1:
                hits = _segment_hits(p0, p1, a, b, c)
            if free1 and free2 and not hits:
                hits = _segment_hits(p1, p2, a, b, c)
            if free2 and free0 and not hits:
                hits = _segment_hits(p2, p0, a, b, c)
            if hits:
                crossing[f] = 1
                crossing[g] = 1
