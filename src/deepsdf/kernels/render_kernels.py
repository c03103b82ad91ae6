# type: ignore (the whole file: Warp's compiler checks these types, Python's checkers cannot)
"""Warp kernels of `rendering`: corner normals, rays, light.

Positions are in the frame of the picture (y up). Picture arrays are flat, row by row from the top. Import only through
`launch.compiled_kernels`, after Warp is initialised.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

NOTHING = wp.constant(0)
SURFACE = wp.constant(1)
GROUND = wp.constant(2)

# Pixels take one of tile x tile interleaved sets of ray directions; a blur as wide as the tile then sees all.
SURFACE_TILE = wp.constant(8)
GROUND_TILE = wp.constant(16)


@wp.struct
class Scene:
    mesh: wp.uint64
    centre: wp.vec3
    radius: float  # of the sphere that holds the mesh
    eye: wp.vec3
    forward: wp.vec3
    right: wp.vec3
    above: wp.vec3
    step: float  # size of a pixel one length in front of the eye
    width: int
    supersample: int  # rays of a pixel along each axis
    ground: float  # height of the ground
    has_ground: int
    key: wp.vec3  # towards the key light
    fill: wp.vec3
    has_cut: int
    cut: wp.vec3  # unit normal of the plane whose line on the surface is inked
    cut_at: float
    cut_width: float  # of half the line, in pixels
    ink: wp.vec3


@wp.kernel
def corner_normals(
    first: int,
    vertex: wp.array(dtype=int),  # merged vertex of each corner (3 f)
    starts: wp.array(dtype=int),  # of the merged vertex's faces in `incident`
    incident: wp.array(dtype=int),
    disputed: wp.array(dtype=wp.bool),  # merged vertices whose faces are not oriented alike
    area_normals: wp.array(dtype=wp.vec3),  # length: twice the area
    cos_crease: float,
    out: wp.array(dtype=wp.vec3),
):
    """Mean normal of the faces round a corner that make a small angle with the corner's own face.

    Where faces are not oriented alike, neighbours are turned to the own face's side first. Not elsewhere: two
    sides of a sharp blade would then pass for one smooth surface.
    """
    corner = first + wp.tid()
    own = wp.normalize(area_normals[corner // 3])
    v = vertex[corner]
    total = own * 1.0e-20
    for k in range(starts[v], starts[v + 1]):
        other = area_normals[incident[k]]
        length = wp.length(other)
        if disputed[v] and wp.dot(own, other) < 0.0:
            other = -other
        if wp.dot(own, other) >= cos_crease * length:
            total += other
    out[corner] = wp.normalize(total)


@wp.func
def occluded(scene: Scene, origin: wp.vec3, direction: wp.vec3):
    # Most rays from the ground miss the whole mesh: ask its sphere first.
    to_centre = scene.centre - origin
    along = wp.dot(to_centre, direction)
    outside = wp.dot(to_centre, to_centre) - scene.radius * scene.radius
    if outside > 0.0 and (along < 0.0 or outside > along * along):
        return 0.0
    hit = wp.mesh_query_ray_anyhit(scene.mesh, origin, direction, 8.0 * scene.radius)
    return wp.where(hit, 1.0, 0.0)


@wp.func
def lift(point: wp.vec3, corner: wp.vec3, normal: wp.vec3):
    """`point`, brought up to the tangent plane at `corner` when it lies below it."""
    return point - normal * wp.min(0.0, wp.dot(point - corner, normal))


@wp.func
def sky_light(direction: wp.vec3):
    return 0.78 + 0.34 * direction[1]


@wp.func
def from_hemisphere(local: wp.vec3, n: wp.vec3):
    # Duff et al. 2017, a frame round n without a branch
    s = wp.where(n[2] >= 0.0, 1.0, -1.0)
    a = -1.0 / (s + n[2])
    b = n[0] * n[1] * a
    t = wp.vec3(1.0 + s * n[0] * n[0] * a, s * b, -s * n[0])
    u = wp.vec3(b, s + n[1] * n[1] * a, -n[1])
    return t * local[0] + u * local[1] + n * local[2]


@wp.kernel
def trace(
    first: int,
    scene: Scene,
    points: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=int),
    normals: wp.array(dtype=wp.vec3),  # of corners
    colours: wp.array(dtype=wp.vec3),  # of vertices, linear; or a single one
    sky: wp.array2d(dtype=wp.vec3),  # (256, rays) in the hemisphere round z, cosine-weighted
    keys: wp.array2d(dtype=wp.vec3),  # (256, rays) in the ball's disc, added to the key light's direction
    kind: wp.array(dtype=int),
    position: wp.array(dtype=wp.vec3),
    normal: wp.array(dtype=wp.vec3),
    albedo: wp.array(dtype=wp.vec3),
    light: wp.array(dtype=wp.vec2),  # (sky, key) visible, unfiltered
):
    """What each pixel sees, and how much sky and key light reaches it."""
    i = first + wp.tid()
    x = i % scene.width
    y = i // scene.width
    half = 0.5 * float(scene.width)
    # A rotated grid: no two of a pixel's rays share a row or column, so that steep edges have more shades.
    s = float(scene.supersample)
    turned_x = (float(y % scene.supersample) + 0.5) / s
    turned_y = 1.0 - (float(x % scene.supersample) + 0.5) / s
    aside = scene.right * ((float(x) + turned_x - half) * scene.step)
    upward = scene.above * ((half - float(y) - turned_y) * scene.step)
    ray = wp.normalize(scene.forward + aside + upward)

    what = NOTHING
    n = wp.vec3(0.0, 1.0, 0.0)
    p = wp.vec3(0.0, 0.0, 0.0)
    origin = p
    query = wp.mesh_query_ray(scene.mesh, scene.eye, ray, 1.0e9)
    if query.result:
        what = SURFACE
        a, b, c = query.face * 3, query.face * 3 + 1, query.face * 3 + 2
        u, v = query.u, query.v
        w = 1.0 - u - v
        pa, pb, pc = points[faces[a]], points[faces[b]], points[faces[c]]
        p = pa * u + pb * v + pc * w
        side = -wp.sign(wp.dot(query.normal, ray))
        flat = query.normal * side
        na = normals[a] * wp.sign(wp.dot(normals[a], flat))
        nb = normals[b] * wp.sign(wp.dot(normals[b], flat))
        nc = normals[c] * wp.sign(wp.dot(normals[c], flat))
        n = wp.normalize(na * u + nb * v + nc * w)
        # Rays start on the rounded surface, not on the facet (Hanika 2021), or facets would shade themselves.
        origin = lift(p, pa, na) * u + lift(p, pb, nb) * v + lift(p, pc, nc) * w
        origin += flat * (1.0e-3 * scene.radius)
        if colours.shape[0] == 1:
            albedo[i] = colours[0]
        else:
            albedo[i] = colours[faces[a]] * u + colours[faces[b]] * v + colours[faces[c]] * w
    elif scene.has_ground != 0 and ray[1] < 0.0 and scene.eye[1] > scene.ground:
        p = scene.eye + ray * ((scene.ground - scene.eye[1]) / ray[1])
        if wp.length(p - scene.centre) < 4.0 * scene.radius:
            what = GROUND
            origin = p + n * (1.0e-3 * scene.radius)

    kind[i] = what
    if what == NOTHING:
        return
    position[i] = p
    normal[i] = n
    # A permutation of the sets that keeps neighbours unlike, should the blur reject some.
    tile = wp.where(what == GROUND, GROUND_TILE, SURFACE_TILE)
    which = ((y % tile) * tile + (x % tile)) * 27 % (tile * tile)
    open_sky = wp.float32(0.0)
    for k in range(sky.shape[1]):
        direction = from_hemisphere(sky[which, k], n)
        if what == GROUND:
            open_sky += 1.0 - occluded(scene, origin, direction)
        else:
            # What hides the sky is lit itself and sends some light back.
            open_sky += wp.where(occluded(scene, origin, direction) > 0.0, 0.22, sky_light(direction))
    open_key = wp.float32(0.0)
    if wp.dot(n, scene.key) > -0.1:
        for k in range(keys.shape[1]):
            open_key += 1.0 - occluded(scene, origin, wp.normalize(scene.key + keys[which, k]))
    light[i] = wp.vec2(open_sky / float(sky.shape[1]), open_key / float(keys.shape[1]))


@wp.func
def encode(value: float):
    """Linear light to sRGB, with a soft shoulder above 0.7 where light would burn out."""
    x = value
    if x > 0.7:
        x = 0.7 + 0.3 * (1.0 - wp.exp(-(x - 0.7) / 0.3))
    return wp.where(x <= 0.0031308, 12.92 * x, 1.055 * wp.pow(wp.max(x, 1.0e-6), 1.0 / 2.4) - 0.055)


@wp.func
def on_cut(scene: Scene, p: wp.vec3, n: wp.vec3):
    """How much of a pixel the line covers where the cutting plane meets the surface."""
    away = p - scene.eye
    ray = wp.normalize(away)
    steep = wp.dot(ray, n)
    steep = wp.where(wp.abs(steep) < 0.05, wp.where(steep < 0.0, -0.05, 0.05), steep)
    # How the height over the plane changes with one pixel to the right, and one up, along the surface.
    slide = wp.dot(ray, scene.cut) / steep
    pixel = scene.step * wp.length(away)
    right = wp.dot(scene.right, scene.cut) - wp.dot(scene.right, n) * slide
    above = wp.dot(scene.above, scene.cut) - wp.dot(scene.above, n) * slide
    slope = wp.max(wp.sqrt(right * right + above * above) * pixel, 1.0e-9)
    return wp.clamp(scene.cut_width + 0.5 - wp.abs(wp.dot(p, scene.cut) - scene.cut_at) / slope, 0.0, 1.0)


@wp.func
def mean_light(
    scene: Scene,
    i: int,
    low: int,
    high: int,
    stride: int,
    kind: wp.array(dtype=int),
    position: wp.array(dtype=wp.vec3),
    normal: wp.array(dtype=wp.vec3),
    light: wp.array(dtype=wp.vec2),
):
    """Mean over the same surface's pixels, `low` <= d < `high` strides away on both axes."""
    x = i % scene.width
    y = i // scene.width
    p = position[i]
    n = normal[i]
    total = wp.vec2(0.0, 0.0)
    count = wp.float32(0.0)
    reach = 4.0 * scene.step * wp.length(p - scene.eye)
    for dy in range(low, high):
        for dx in range(low, high):
            xx = x + dx * stride
            yy = y + dy * stride
            if xx >= 0 and yy >= 0 and xx < scene.width and yy < scene.width:
                j = yy * scene.width + xx
                if kind[j] == kind[i] and wp.abs(wp.dot(position[j] - p, n)) < reach:
                    if wp.dot(normal[j], n) > 0.85:
                        total += light[j]
                        count += 1.0
    return total / wp.max(count, 1.0)


@wp.kernel
def gather(
    first: int,
    scene: Scene,
    kind: wp.array(dtype=int),
    position: wp.array(dtype=wp.vec3),
    normal: wp.array(dtype=wp.vec3),
    light: wp.array(dtype=wp.vec2),
    out: wp.array(dtype=wp.vec2),
):
    """First half of the blur: 4 x 4 neighbours. `shade` then combines such means."""
    i = first + wp.tid()
    if kind[i] != NOTHING:
        out[i] = mean_light(scene, i, -2, 2, 1, kind, position, normal, light)


@wp.kernel
def shade(
    first: int,
    scene: Scene,
    kind: wp.array(dtype=int),
    position: wp.array(dtype=wp.vec3),
    normal: wp.array(dtype=wp.vec3),
    albedo: wp.array(dtype=wp.vec3),
    light: wp.array(dtype=wp.vec2),
    picture: wp.array(dtype=wp.vec4),  # sRGB times opacity, and opacity; [0, 1]
):
    """Blur the light over neighbours on the same surface, then colour."""
    i = first + wp.tid()
    what = kind[i]
    if what == NOTHING:
        picture[i] = wp.vec4(0.0, 0.0, 0.0, 0.0)
        return
    p = position[i]
    n = normal[i]
    view = wp.normalize(scene.eye - p)
    if what == GROUND:
        # The ground is a black veil over the background where it lacks light: away from the mesh there is none,
        # nor at the picture's edge, lest a shadow be cut.
        lit = mean_light(scene, i, -2, 2, 4, kind, position, normal, light)
        half = 0.5 * float(scene.width)
        across = wp.abs(float(i % scene.width) + 0.5 - half) / half
        down = wp.abs(float(i // scene.width) + 0.5 - half) / half
        edge = wp.pow(across, 4.0) + wp.pow(down, 4.0)
        frame = wp.clamp((1.0 - edge) / 0.7, 0.0, 1.0)
        far = wp.clamp(1.6 - 0.4 * wp.length(p - scene.centre) / scene.radius, 0.0, 1.0)
        dark = 0.55 * (1.0 - lit[0]) + 0.27 * (1.0 - lit[1])
        dark = wp.max(0.0, dark - 0.015) * far * frame * frame * (3.0 - 2.0 * frame)
        picture[i] = wp.vec4(0.0, 0.0, 0.0, dark)
        return
    lit = mean_light(scene, i, -1, 1, 4, kind, position, normal, light)
    facing = wp.max(0.0, wp.dot(n, view))
    wrapped = wp.max(0.0, (wp.dot(n, scene.key) + 0.06) / 1.06)
    key = wrapped * lit[1]
    fill = wp.max(0.0, 0.3 + 0.7 * wp.dot(n, scene.fill)) * (0.35 + 0.65 * lit[0])
    warm = wp.vec3(1.0, 0.97, 0.92) * (1.0 * key)
    cool = wp.vec3(0.92, 0.97, 1.0) * (0.34 * lit[0] + 0.10 * fill)
    diffuse = wp.cw_mul(albedo[i], warm + cool)
    gloss = wp.pow(wp.max(0.0, wp.dot(n, wp.normalize(view + scene.key))), 24.0) * 0.05 * lit[1]
    rim = wp.pow(1.0 - facing, 4.0) * 0.10 * lit[0]
    shine = gloss + rim
    colour = diffuse + wp.vec3(shine, shine, shine)
    shown = wp.vec3(encode(colour[0]), encode(colour[1]), encode(colour[2]))
    if scene.has_cut != 0:
        line = on_cut(scene, p, n)
        shown = shown * (1.0 - line) + scene.ink * line
    picture[i] = wp.vec4(shown[0], shown[1], shown[2], 1.0)
