// The cards of the shapes: sorting, filtering, and on each card the value by which they are sorted.

// Shapes in the order shown; the viewer steps through them.
let shown = [];

function setUpGallery(open) {
    const list = byId("cards");
    const cards = new Map([...list.children].map((card) => [Number(card.dataset.number), card]));
    const [sort, order, category, status, find] = ["sort", "order", "class", "status", "find"].map(byId);
    for (const metric of content.metrics) sort.append(make("option", { value: metric.name }, metric.label));
    sort.append(make("option", { value: "" }, "name"));

    const classes = new Map();
    for (const shape of content.shapes) classes.set(shape.category, (classes.get(shape.category) ?? 0) + 1);
    category.append(make("option", { value: "" }, `all (${content.shapes.length})`));
    for (const [name, count] of [...classes].sort(([a], [b]) => a.localeCompare(b))) {
        category.append(make("option", { value: `=${name}` }, `${name} (${count})`));
    }

    const matches = (shape) => {
        if (category.value && category.value !== `=${shape.category}`) return false;
        if (status.value === "doubtful" ? !shape.verdict || shape.verdict === "ok" : status.value && shape.status !== status.value) {
            return false;
        }
        const text = `${shape.name} ${shape.reason} ${shape.notes}`.toLowerCase();
        return find.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
    };

    // Worst first. Shapes without a value, such as failed ones, are worst.
    const compare = (a, b) => {
        const metric = metrics.get(sort.value);
        let before = a.name.localeCompare(b.name, undefined, { numeric: true });
        if (metric) {
            const sign = metric.direction === "lower" ? 1 : -1;
            const badness = (shape) => (shape.values[metric.name] ?? sign * Infinity) * sign;
            const [one, other] = [badness(a), badness(b)];
            if (one !== other) before = one > other ? -1 : 1;
        }
        return order.dataset.reversed === undefined ? before : -before;
    };

    const update = () => {
        const metric = metrics.get(sort.value);
        const first = order.dataset.reversed === undefined;
        order.textContent = `⇅ ${metric ? (first ? "Worst first" : "Best first") : first ? "A to Z" : "Z to A"}`;
        shown = content.shapes.filter(matches).sort(compare);
        const seen = new Set(shown.map((shape) => shape.number));
        for (const [number, card] of cards) card.hidden = !seen.has(number);
        list.append(...shown.map((shape) => cards.get(shape.number)));
        for (const shape of shown) emphasize(cards.get(shape.number), shape, metric);
        byId("count").textContent = `${shown.length} of ${content.shapes.length} shapes`;
        byId("empty").hidden = shown.length > 0;
    };

    for (const select of [sort, category, status]) select.addEventListener("change", update);
    find.addEventListener("input", update);
    order.addEventListener("click", () => {
        if (order.dataset.reversed === undefined) order.dataset.reversed = "";
        else delete order.dataset.reversed;
        update();
    });
    byId("reset").addEventListener("click", () => {
        category.value = status.value = find.value = "";
        update();
        find.focus();
    });
    list.addEventListener("click", (event) => {
        const card = event.target.closest(".card");
        if (card?.querySelector(".open") && !getSelection().toString()) open(Number(card.dataset.number));
    });
    document.querySelector(".tools").hidden = false;
    update();
}

// Highlight the value by which cards are sorted; add it to cards that do not show it.
function emphasize(card, shape, metric) {
    const figures = card.querySelector(".figures");
    figures.querySelector(".added")?.remove();
    for (const each of figures.children) each.classList.remove("chosen");
    if (!metric) return;
    let chosen = [...figures.children].find((each) => each.firstElementChild.textContent === metric.label);
    if (!chosen) {
        chosen = make("div", { class: "added" });
        chosen.append(make("dt", {}, metric.label), make("dd", {}, figure(metric.name, shape.values[metric.name])));
        figures.append(chosen);
    }
    chosen.classList.add("chosen");
}
