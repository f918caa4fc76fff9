// Plotly is loaded after the first paint; a plot is drawn when it is visible and out of date.

const plots = new Map(); // by id: {target, draw, heightOf, stale, near, height}
let plotly = null;

function readPlotly() {
  const script = document.createElement("script");
  script.textContent = byId("plotly").textContent;
  document.head.append(script);
  plotly = window.Plotly;
  drawStale();
}

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const plot = plots.get(entry.target.id);
    if (plot?.target === entry.target) plot.near = entry.isIntersecting; // ignore removed elements
  }
  drawStale();
}, { rootMargin: "300px" });

/**
 * draw(element, rows): draws the rows that match the filters.
 * heightOf(element, rows): its height in pixels as Plotly will draw it, 0 if there is nothing to draw;
 * null for a plot that is not drawn by Plotly.
 */
function addPlot(id, draw, heightOf = null) {
  removePlot(id);
  const target = byId(id);
  plots.set(id, { target, draw, heightOf, stale: true, near: false, height: 0 });
  reserve(plots.get(id), shownRows());
  sight.observe(target);
}

/**
 * Give a plot the height that it will have: if drawing it moved what is below, a click would land
 * beside the button that was there when the pointer went down.
 */
function reserve(plot, rows) {
  if (!plot.heightOf) return;
  plot.height = plot.heightOf(plot.target, rows);
  plot.target.style.minHeight = plot.height ? `${plot.height}px` : "";
}

function removePlot(id) {
  const plot = plots.get(id);
  if (!plot) return;
  sight.unobserve(plot.target);
  if (plotly && plot.heightOf) plotly.purge(plot.target);
  plots.delete(id);
}

function outdate(...ids) {
  const rows = shownRows();
  for (const id of ids.length ? ids : plots.keys()) {
    plots.get(id).stale = true;
    reserve(plots.get(id), rows);
  }
  drawStale();
}

let waiting = false;

/** Draw what is out of date and in sight, one after each frame: the table does not wait for them. */
function drawStale() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => setTimeout(() => {
    waiting = false;
    const next = [...plots.values()].find((plot) => plot.near && mayBeDrawn(plot));
    if (!next) return;
    drawNow(next);
    drawStale();
  }));
}

const mayBeDrawn = (plot) => plot.stale && (plotly || !plot.heightOf);

function drawNow(plot) {
  plot.stale = false;
  plot.draw(plot.target, shownRows());
}

/** On paper all of them are in sight. */
window.addEventListener("beforeprint", () => [...plots.values()].filter(mayBeDrawn).forEach(drawNow));

const CONFIG = {
  displaylogo: false, responsive: true,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // none that leaves this file
};

function axis({ title, ...extra } = {}) {
  return {
    title: { standoff: 6, font: { size: 12.5 }, ...title },
    gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, automargin: true,
    tickfont: { size: 12 }, ...extra,
  };
}

/** Draw in the colours of the theme. label: the text for screen readers. */
function plot(target, traces, layout, label) {
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("ink") },
    margin: { l: 55, r: 12, t: 8, b: 45 }, showlegend: false, dragmode: "zoom",
    hoverlabel: {
      bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") },
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("ink") },
  };
  target.setAttribute("role", "group"); // its legend has buttons
  target.setAttribute("aria-label", label);
  plotly.react(target, traces, { ...base, ...layout, height: plots.get(target.id).height }, CONFIG);
}

function percentAxis(kind) {
  return kind === "share" ? { tickformat: ".4~%" } : {};
}

/** Escape text of files, such as names of runs: Plotly interprets tags in text. */
function safe(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function empty(target, words) {
  if (plotly) plotly.purge(target);
  delete target.dataset.opens; // purge has removed the listeners too
  target.style.minHeight = "";
  target.removeAttribute("role");
  target.removeAttribute("aria-label");
  target.replaceChildren(element("p", { class: "quiet" }, words));
}

/** Empty an element that showed words instead of a plot. */
function cleared(target) {
  if (!target.querySelector(".plot-container")) target.replaceChildren();
  return target;
}
