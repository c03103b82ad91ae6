// Shared by the other scripts: the data of the page, DOM helpers, error colours, the theme.

const content = JSON.parse(document.getElementById("content").textContent);
const metrics = new Map(content.metrics.map((metric) => [metric.name, metric]));
const byId = (id) => document.getElementById(id);

// A new element. Texts become text nodes, never markup, since names of shapes are not trusted.
function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "g", "path", "line", "rect", "text", "circle", "title"].includes(tag);
    const element = svg
        ? document.createElementNS("http://www.w3.org/2000/svg", tag)
        : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
}

function figure(name, value) {
    const metric = metrics.get(name);
    return value === undefined || value === null ? "–" : (value * metric.factor).toFixed(metric.decimals);
}

// Error colour, sRGB 0 to 255, at a share of the scale; clamped to 0 ... 1.
function errorColour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (content.error.colours.length - 1);
    const low = Math.floor(at);
    const high = Math.min(low + 1, content.error.colours.length - 1);
    return content.error.colours[low].map((c, k) => c + (at - low) * (content.error.colours[high][k] - c));
}

for (const ramp of document.querySelectorAll(".ramp")) {
    const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) => `rgb(${errorColour(share).map(Math.round).join(",")})`);
    ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
}

// Called after every change of the colours.
const themeListeners = [];

function setUpTheme() {
    const root = document.documentElement;
    const buttons = [...document.querySelectorAll("[data-theme-choice]")];
    // Browsers may deny storage to pages opened from disk.
    const remembered = () => {
        try {
            return localStorage.getItem("deepsdf-theme");
        } catch {
            return null;
        }
    };
    const choose = (choice) => {
        if (choice === "auto") delete root.dataset.theme;
        else root.dataset.theme = choice;
        for (const button of buttons) {
            button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
        }
        try {
            localStorage.setItem("deepsdf-theme", choice);
        } catch {
            // the choice is not remembered
        }
        for (const listener of themeListeners) listener();
    };
    for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.themeChoice));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
        for (const listener of themeListeners) listener();
    });
    document.querySelector(".theme").hidden = false;
    const before = remembered();
    if (before === "light" || before === "dark") choose(before);
}

setUpTheme();
