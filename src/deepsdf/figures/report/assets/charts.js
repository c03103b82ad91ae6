// Curves and a histogram as SVG, in the width of their container, with a readout at the pointer.

const MARGIN = { left: 58, right: 14, top: 10, bottom: 34 };

// Round values between two numbers, about `count` of them.
function ticks(low, high, count) {
    const raw = (high - low) / Math.max(1, count) || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw) * power;
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
    return found;
}

function logTicks(low, high) {
    const found = [];
    for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
        for (const digit of high - low > 2 ? [1] : [1, 2, 5]) {
            const at = power + Math.log10(digit);
            if (at >= low - 1e-9 && at <= high + 1e-9) found.push(at);
        }
    }
    return found;
}

const short = (value) => {
    const size = Math.abs(value);
    if (size && (size < 1e-3 || size >= 1e5)) {
        const [digits, power] = value.toExponential(2).split("e");
        return `${Number(digits)}e${Number(power)}`;
    }
    return String(Number(value.toPrecision(3)));
};

// Axes of a chart: the SVG, and functions from values to positions in it.
function axes(holder, height, x, y) {
    const width = Math.max(240, holder.clientWidth);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const toX = (value) => MARGIN.left + ((value - x.low) / (x.high - x.low || 1)) * inner.width;
    const toY = (value) => MARGIN.top + (1 - (value - y.low) / (y.high - y.low || 1)) * inner.height;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    for (const at of y.ticks) {
        svg.append(make("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: toY(at), y2: toY(at) }));
        svg.append(make("text", { class: "tick", x: MARGIN.left - 8, y: toY(at) + 4, "text-anchor": "end" }, y.label(at)));
    }
    for (const at of x.ticks) {
        svg.append(make("text", { class: "tick", x: toX(at), y: height - 18, "text-anchor": "middle" }, x.label(at)));
    }
    const bottom = MARGIN.top + inner.height;
    svg.append(make("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom }));
    svg.append(make("text", { class: "name", x: width - MARGIN.right, y: height - 3, "text-anchor": "end" }, x.name));
    holder.replaceChildren(svg);
    return { svg, toX, toY, width, height, bottom };
}

function drawCurves(holder, chart) {
    const shown = chart.curves.filter((curve) => curve.x.length);
    const place = (value) => (chart.log ? Math.log10(Math.max(value, 1e-12)) : value);
    const lows = shown.flatMap((curve) => curve.low.filter((value) => !chart.log || value > 0));
    const highs = shown.flatMap((curve) => curve.high);
    if (!lows.length) return;
    const last = Math.ceil(Math.max(...shown.map((curve) => curve.x.at(-1))));
    let [low, high] = [place(Math.min(...lows)), place(Math.max(...highs))];
    if (!chart.log) low = Math.min(0, low);
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const frame = axes(
        holder,
        chart.key === "loss" ? 280 : 200,
        { low: 0, high: last, ticks: ticks(0, last, 5), label: short, name: "epoch" },
        {
            low,
            high,
            ticks: chart.log ? logTicks(low, high) : ticks(low, high, 4),
            label: (at) => short(chart.log ? 10 ** at : at),
        },
    );
    const line = (xs, ys) => xs.map((x, k) => `${frame.toX(x).toFixed(1)},${frame.toY(Math.max(low, place(ys[k]))).toFixed(1)}`);
    shown.forEach((curve, k) => {
        const band = [...line(curve.x, curve.high), ...line(curve.x, curve.low).reverse()];
        frame.svg.append(make("path", { class: `band series-${k}`, d: `M${band.join("L")}Z` }));
        frame.svg.append(make("path", { class: `line series-${k}`, d: `M${line(curve.x, curve.y).join("L")}` }));
    });
    if (shown.length > 1) {
        const key = make("p", { class: "key", "aria-hidden": "true" });
        shown.forEach((curve, k) => key.append(make("span", { class: `series-${k}` }, curve.name)));
        holder.append(key);
    }
    readout(holder, frame, (x) => {
        const epoch = Math.max(0, ((x - MARGIN.left) / (frame.width - MARGIN.left - MARGIN.right)) * last);
        const nearest = (curve) => {
            let best = 0;
            curve.x.forEach((value, k) => {
                if (Math.abs(value - epoch) < Math.abs(curve.x[best] - epoch)) best = k;
            });
            return best;
        };
        const first = shown[0];
        const at = nearest(first);
        const words = shown.map((curve) => `${shown.length > 1 ? `${curve.name} ` : ""}${short(curve.y[nearest(curve)])}`);
        return { x: frame.toX(first.x[at]), text: `epoch ${Math.round(first.x[at])}: ${words.join(", ")} ${chart.unit}` };
    });
}

// A vertical line at the pointer and a text beside the chart; `textAt` maps a position x to both.
function readout(holder, frame, textAt) {
    const words = make("p", { class: "readout", "aria-hidden": "true" });
    const cursor = make("line", { class: "cursor", y1: MARGIN.top, y2: frame.bottom, visibility: "hidden" });
    frame.svg.append(cursor);
    holder.append(words);
    frame.svg.addEventListener("pointermove", (event) => {
        const box = frame.svg.getBoundingClientRect();
        const found = textAt(((event.clientX - box.left) / box.width) * frame.width);
        if (!found) return;
        words.textContent = found.text;
        cursor.setAttribute("x1", found.x);
        cursor.setAttribute("x2", found.x);
        cursor.setAttribute("visibility", "visible");
    });
    frame.svg.addEventListener("pointerleave", () => {
        words.textContent = "";
        cursor.setAttribute("visibility", "hidden");
    });
}

function drawHistogram(holder, metric, open) {
    const known = content.shapes.filter((shape) => typeof shape.values[metric.name] === "number");
    if (!known.length) {
        holder.replaceChildren(make("p", { class: "hint" }, "This metric is defined for no shape."));
        return;
    }
    const value = (shape) => shape.values[metric.name] * metric.factor;
    const values = known.map(value);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (low === high) [low, high] = [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
    const wanted = Math.min(40, Math.max(6, Math.round(2 * Math.sqrt(known.length))));
    const edges = ticks(low, high, wanted);
    const step = edges.length > 1 ? edges[1] - edges[0] : high - low;
    const start = Math.floor(low / step + 1e-9) * step;
    const bins = Array.from({ length: Math.max(1, Math.ceil((high - start) / step + 1e-9)) }, () => 0);
    for (const each of values) bins[Math.min(bins.length - 1, Math.floor((each - start) / step + 1e-9))] += 1;
    const end = start + bins.length * step;
    const most = Math.max(...bins);
    const [below, above] = [-0.14 * most, 1.14 * most]; // room for the marks and for the label of the median
    const frame = axes(
        holder,
        240,
        { low: start, high: end, ticks: ticks(start, end, 6), label: short, name: metric.label },
        { low: below, high: above, ticks: ticks(0, most, Math.min(4, most)).filter(Number.isInteger), label: String },
    );
    bins.forEach((count, k) => {
        const [x, y] = [frame.toX(start + k * step), frame.toY(count)];
        const bar = make("rect", {
            class: "bin",
            x: x + 0.5,
            y,
            width: Math.max(1, frame.toX(start + (k + 1) * step) - x - 1),
            height: frame.toY(0) - y,
        });
        const shapes = `${count} ${count === 1 ? "shape" : "shapes"}`;
        bar.append(make("title", {}, `${shapes} from ${short(start + k * step)} to ${short(start + (k + 1) * step)}`));
        frame.svg.append(bar);
    });
    const sorted = [...values].sort((a, b) => a - b);
    const middle = (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
    frame.svg.append(
        make("line", { class: "median", x1: frame.toX(middle), x2: frame.toX(middle), y1: MARGIN.top, y2: frame.toY(0) }),
    );
    const right = frame.toX(middle) > 0.7 * frame.width;
    frame.svg.append(
        make(
            "text",
            {
                class: "tick",
                x: frame.toX(middle) + (right ? -6 : 6),
                y: MARGIN.top + 10,
                "text-anchor": right ? "end" : "start",
            },
            `median ${figure(metric.name, middle / metric.factor)}`,
        ),
    );
    const [top, bottom] = [frame.toY(0) + 4, frame.bottom - 3];
    for (const shape of known) {
        const x = frame.toX(value(shape));
        const mark = make("g", { class: "mark" });
        mark.append(make("line", { x1: x, x2: x, y1: top, y2: bottom }));
        mark.append(make("rect", { x: x - 4, width: 8, y: top - 2, height: bottom - top + 4 }));
        mark.append(make("title", {}, `${shape.instance}: ${figure(metric.name, shape.values[metric.name])}`));
        mark.addEventListener("click", () => open(shape.number));
        frame.svg.append(mark);
    }
    const left = content.shapes.length - known.length;
    byId("histogram-left").textContent = left ? `${left} of ${content.shapes.length} shapes have no value.` : "";
    holder.setAttribute("role", "img");
    holder.setAttribute(
        "aria-label",
        `Histogram of ${metric.label} over ${known.length} shapes, from ${short(sorted[0])} to ${short(sorted.at(-1))}, ` +
            `median ${figure(metric.name, middle / metric.factor)}`,
    );
}

function setUpCharts(open) {
    const charts = new Map(content.charts.map((chart) => [chart.key, chart]));
    const chosen = byId("histogram-metric");
    for (const metric of content.metrics) chosen.append(make("option", { value: metric.name }, metric.label));
    const draw = (holder) => {
        const key = holder.dataset.chart;
        if (key === "histogram") drawHistogram(holder, metrics.get(chosen.value), open);
        else drawCurves(holder, charts.get(key));
    };
    byId("histogram").hidden = false;
    const holders = [...document.querySelectorAll("[data-chart]")];
    const widths = new Map();
    const observer = new ResizeObserver((entries) => {
        for (const { target } of entries) {
            if (widths.get(target) === target.clientWidth) continue;
            widths.set(target, target.clientWidth);
            draw(target);
        }
    });
    for (const holder of holders) observer.observe(holder);
    chosen.addEventListener("change", () => draw(document.querySelector('[data-chart="histogram"]')));
}
