// Unpacks meshes; figures/report/packing.py packs them and documents the format.

async function unpackMesh(block) {
    const { vertices, faces, origin, step, valueMax } = block.dataset;
    const [count, faceCount] = [Number(vertices), Number(faces)];
    const deflated = Uint8Array.from(atob(block.textContent), (sign) => sign.charCodeAt(0));
    const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    let at = 0;

    // `number` integers stored as byte planes, lowest bytes first.
    const planes = (number, width) => {
        const found = new Uint32Array(number);
        for (let plane = 0; plane < width; plane++) {
            for (let k = 0; k < number; k++) found[k] |= bytes[at + plane * number + k] << (8 * plane);
        }
        at += width * number;
        return found;
    };

    const corner = origin.split(" ").map(Number);
    const positions = new Float32Array(3 * count);
    for (let axis = 0; axis < 3; axis++) {
        const coded = planes(count, 2);
        for (let k = 0, q = 0; k < count; k++) {
            q = (q + (coded[k] & 1 ? -((coded[k] + 1) >> 1) : coded[k] >> 1)) & 0xffff;
            positions[3 * k + axis] = corner[axis] + Number(step) * q;
        }
    }
    const indices = faceCount ? planes(3 * faceCount, count > 1 << 16 ? 4 : 2) : null;
    for (let k = 0, following = 0; indices && k < indices.length; k++) {
        const code = indices[k];
        indices[k] = following - code;
        if (code === 0) following += 1;
    }
    let values = null;
    if (Number(valueMax) > 0) {
        values = new Float32Array(count);
        for (let k = 0, level = 0; k < count; k++) {
            level = (level + bytes[at + k]) & 255;
            values[k] = (level / 255) ** 2 * Number(valueMax);
        }
    }
    return { positions, indices, values };
}
