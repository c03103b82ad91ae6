// The 3D view of one shape in a dialog: truth, reconstruction, and the distance of each from the other.

// The camera of rendering/camera.py: field of view in degrees, distance (MARGIN 1.1), and default direction.
const LENS = 20;
const DISTANCE = 1.1 / Math.sin((LENS / 2) * (Math.PI / 180));
const HOME = { azimuth: 35, elevation: 20 };
const CREASE = 38 * (Math.PI / 180);
const CLAY = 0xa4bed8;
const TURN = 10 * (Math.PI / 180);

const linear = (channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
};

// What each mode draws: [side, coloured] for every part of the stage.
const MODES = {
    both: [["truth", false], ["reconstruction", false]],
    truth: [["truth", false]],
    reconstruction: [["reconstruction", false]],
    error: [["reconstruction", true]],
    missed: [["truth", true]],
};

class Stage {
    constructor(canvas) {
        this.canvas = canvas;
        this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
        this.renderer.autoClear = false;
        this.camera = new THREE.PerspectiveCamera(LENS, 1, 0.1, 100);
        this.scene = new THREE.Scene();
        this.scene.add(new THREE.HemisphereLight(0xffffff, 0x6f6a62, 1.1), this.camera);
        // KEY_LIGHT and FILL_LIGHT of rendering/camera.py, which turn with the camera.
        for (const [strength, ...from] of [[2.3, -0.65, 0.95, 0.55], [0.7, 0.85, 0.25, 0.55]]) {
            const light = new THREE.DirectionalLight(0xffffff, strength);
            light.position.set(...from);
            this.camera.add(light, light.target);
        }
        this.controls = new THREE.OrbitControls(this.camera, canvas);
        this.controls.minDistance = 0.2 * DISTANCE;
        this.controls.maxDistance = 3 * DISTANCE;
        this.controls.addEventListener("change", () => this.draw());
        this.sides = {};
        this.mode = "both";
        this.home();
        new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    }

    home() {
        this.controls.target.set(0, 0, 0);
        const from = new THREE.Spherical(DISTANCE, (90 - HOME.elevation) * (Math.PI / 180), HOME.azimuth * (Math.PI / 180));
        this.camera.position.setFromSpherical(from);
        this.controls.update();
        this.draw();
    }

    // Rotate the camera around its target, and change its distance by the factor `nearer`.
    move(right, up, nearer = 1) {
        const offset = this.camera.position.clone().sub(this.controls.target);
        const from = new THREE.Spherical().setFromVector3(offset);
        from.theta += right;
        from.phi -= up;
        from.radius = Math.min(Math.max(from.radius * nearer, this.controls.minDistance), this.controls.maxDistance);
        from.makeSafe();
        this.camera.position.setFromSpherical(from).add(this.controls.target);
        this.controls.update();
        this.draw();
    }

    show(sides) {
        this.clear();
        for (const [name, mesh] of Object.entries(sides)) {
            this.sides[name] = mesh.indices ? surface(mesh) : cloud(mesh);
            this.scene.add(this.sides[name].group);
        }
        this.draw();
    }

    clear() {
        for (const { group } of Object.values(this.sides)) {
            this.scene.remove(group);
            group.traverse((each) => {
                each.geometry?.dispose();
                each.material?.dispose();
            });
        }
        this.sides = {};
    }

    resize() {
        const { clientWidth, clientHeight } = this.canvas.parentElement;
        if (!clientWidth || !clientHeight) return;
        this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
        this.renderer.setSize(clientWidth, clientHeight, false);
        this.draw();
    }

    // Parts of the stage in pixels from the top left of the canvas: [x, y, width, height].
    parts() {
        const { clientWidth: width, clientHeight: height } = this.canvas;
        if (MODES[this.mode].length === 1) return [[0, 0, width, height]];
        const half = width >= height ? [width / 2, height] : [width, height / 2];
        return [
            [0, 0, ...half],
            [width - half[0], height - half[1], ...half],
        ];
    }

    draw() {
        const { clientHeight: height } = this.canvas;
        if (!height) return;
        this.renderer.setScissorTest(false);
        this.renderer.clear();
        this.renderer.setScissorTest(true);
        this.parts().forEach(([x, y, w, h], k) => {
            this.pose(k, w, h);
            this.renderer.setViewport(x, height - y - h, w, h);
            this.renderer.setScissor(x, height - y - h, w, h);
            this.renderer.render(this.scene, this.camera);
        });
    }

    // Set up the camera and the scene for one part.
    pose(part, width, height) {
        const [wanted, coloured] = MODES[this.mode][part];
        for (const [name, side] of Object.entries(this.sides)) {
            side.group.visible = name === wanted;
            side.plain.visible = !coloured;
            if (side.coloured) side.coloured.visible = coloured;
        }
        // The unit sphere fills the shorter side.
        this.camera.aspect = width / height;
        const half = Math.tan((LENS / 2) * (Math.PI / 180));
        this.camera.fov = (360 / Math.PI) * Math.atan(width < height ? (half * height) / width : half);
        this.camera.updateProjectionMatrix();
    }

    // The distance shown at a position of the canvas, or null.
    probe(x, y) {
        const part = this.parts().findIndex(([left, top, w, h]) => x >= left && x < left + w && y >= top && y < top + h);
        const [wanted, coloured] = MODES[this.mode][part] ?? [];
        const mesh = coloured && this.sides[wanted]?.coloured;
        if (!mesh?.isMesh) return null;
        const [left, top, w, h] = this.parts()[part];
        this.pose(part, w, h);
        const ray = new THREE.Raycaster();
        ray.setFromCamera(new THREE.Vector2(((x - left) / w) * 2 - 1, 1 - ((y - top) / h) * 2), this.camera);
        const [hit] = ray.intersectObject(mesh, false);
        if (!hit) return null;
        const values = mesh.geometry.getAttribute("distance");
        const { a, b, c } = hit.face;
        return new THREE.Vector3(values.getX(a), values.getX(b), values.getX(c)).dot(hit.barycoord);
    }
}

function geometryOf({ positions, indices, values }) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
    if (indices) geometry.setIndex(new THREE.BufferAttribute(indices, 1));
    const colours = new Float32Array(positions.length);
    for (let k = 0; values && k < values.length; k++) {
        colours.set(errorColour(values[k] / content.error.max).map(linear), 3 * k);
    }
    // There are no values if the surfaces are equal at all vertices, or if there is only one surface.
    if (values) {
        geometry.setAttribute("color", new THREE.BufferAttribute(colours, 3));
        geometry.setAttribute("distance", new THREE.BufferAttribute(values, 1));
    }
    return geometry;
}

function surface(mesh) {
    const geometry = THREE.toCreasedNormals(geometryOf(mesh), CREASE);
    const look = { roughness: 0.85, metalness: 0, side: THREE.DoubleSide };
    const plain = new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ ...look, color: CLAY }));
    return assembled(plain, () => new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ ...look, vertexColors: true })));
}

function cloud(mesh) {
    const geometry = geometryOf(mesh);
    const plain = new THREE.Points(geometry, new THREE.PointsMaterial({ size: 0.012, color: CLAY }));
    return assembled(plain, () => new THREE.Points(geometry, new THREE.PointsMaterial({ size: 0.012, vertexColors: true })));
}

function assembled(plain, makeColoured) {
    const group = new THREE.Group();
    const coloured = plain.geometry.hasAttribute("color") ? makeColoured() : null;
    group.add(plain);
    if (coloured) group.add(coloured);
    return { group, plain, coloured };
}

function setUpViewer() {
    const dialog = byId("viewer");
    const canvas = byId("canvas");
    const probe = byId("probe");
    const message = byId("viewer-message");
    const radios = [...document.querySelectorAll('#modes input[name="mode"]')];
    let stage = null;
    let current = null;

    const showMessage = (text) => {
        message.textContent = text;
    };

    const setMode = (mode) => {
        for (const radio of radios) radio.checked = radio.value === mode;
        const parts = MODES[mode];
        const coloured = parts.some(([, each]) => each);
        byId("viewer-legend").classList.toggle("faded", !coloured);
        probe.hidden = true;
        document.querySelectorAll(".sides span").forEach((label, k) => {
            label.textContent = parts.length > 1 ? parts[k][0] : "";
        });
        canvas.setAttribute("aria-label", `3D view of ${current?.instance}: ${parts.map(([side]) => side).join(" and ")}`);
        if (!stage) return;
        stage.mode = mode;
        stage.draw();
    };

    // Enable the modes whose sides exist; keep the chosen mode if possible.
    const enableModes = (sides) => {
        for (const radio of radios) {
            const parts = MODES[radio.value];
            radio.disabled = parts.some(([side, coloured]) => !sides[side] || (coloured && !sides[side].values));
        }
        const chosen = radios.find((radio) => radio.checked && !radio.disabled) ?? radios.find((radio) => !radio.disabled);
        if (chosen) setMode(chosen.value);
    };

    const describe = (shape) => {
        byId("viewer-name").textContent = shape.instance;
        byId("viewer-class").textContent = shape.category;
        byId("viewer-reason").textContent = [shape.reason, shape.notes].filter(Boolean).join(" ");
        const rows = content.metrics.map((metric) => {
            const row = make("div");
            row.append(make("dt", { title: metric.description }, metric.label), make("dd", {}, figure(metric.name, shape.values[metric.name])));
            return row;
        });
        byId("viewer-figures").replaceChildren(...rows);
        const viewable = shown.filter((each) => each.sides.length);
        byId("viewer-position").textContent = `${viewable.indexOf(shape) + 1} / ${viewable.length}`;
        for (const id of ["previous", "next"]) byId(id).disabled = viewable.length < 2;
    };

    const open = async (number) => {
        const shape = content.shapes.find((each) => each.number === number);
        if (!shape?.sides.length) return;
        current = shape;
        if (!dialog.open) dialog.showModal();
        describe(shape);
        showMessage("Loading …");
        try {
            stage ??= new Stage(canvas);
        } catch {
            showMessage("The 3D view needs WebGL, which this browser does not support.");
            for (const radio of radios) radio.disabled = true;
            return;
        }
        try {
            const meshes = await Promise.all(shape.sides.map((side) => unpackMesh(byId(`mesh-${number}-${side}`))));
            if (current !== shape) return;
            const sides = Object.fromEntries(shape.sides.map((side, k) => [side, meshes[k]]));
            stage.show(sides);
            enableModes(sides);
            stage.resize();
            showMessage("");
        } catch (error) {
            showMessage(`This shape cannot be shown: ${error.message}`);
        }
    };

    const step = (by) => {
        const viewable = shown.filter((each) => each.sides.length);
        const at = viewable.indexOf(current);
        if (viewable.length) open(viewable[(at + by + viewable.length) % viewable.length].number);
    };

    for (const radio of radios) radio.addEventListener("change", () => setMode(radio.value));
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => dialog.close());
    byId("home").addEventListener("click", () => stage?.home());
    dialog.addEventListener("click", (event) => {
        if (event.target === dialog) dialog.close(); // a click outside the dialog
    });
    dialog.addEventListener("close", () => {
        current = null;
        stage?.clear();
    });
    dialog.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const key = event.key.toLowerCase();
        if (key === "n") step(1);
        else if (key === "p") step(-1);
    });
    canvas.addEventListener("keydown", (event) => {
        const moves = {
            ArrowLeft: [-TURN, 0],
            ArrowRight: [TURN, 0],
            ArrowUp: [0, TURN],
            ArrowDown: [0, -TURN],
            "+": [0, 0, 1 / 1.15],
            "=": [0, 0, 1 / 1.15],
            "-": [0, 0, 1.15],
        };
        if (event.ctrlKey || event.metaKey || event.altKey || !stage) return;
        if (event.key === "Home") stage.home();
        else if (moves[event.key]) stage.move(...moves[event.key]);
        else return;
        event.preventDefault();
    });

    canvas.addEventListener("pointermove", (event) => {
        if (event.buttons || !stage) return;
        const { offsetX, offsetY } = event;
        const found = stage.probe(offsetX, offsetY);
        probe.hidden = found === null;
        if (found === null) return;
        probe.textContent = found.toFixed(4);
        probe.style.left = `${offsetX}px`;
        probe.style.top = `${offsetY}px`;
    });
    for (const name of ["pointerleave", "pointerdown"]) {
        canvas.addEventListener(name, () => {
            probe.hidden = true;
        });
    }
    return open;
}

const openShape = setUpViewer();
setUpGallery(openShape);
setUpCharts(openShape);
