// Start-up, and updates when the filters or the selection change.

const THEME = "sweep-report-theme";

function changed() {
  remember();
  const rows = shownRows();
  filterTable(rows);
  showFilters();
  byId("effects-count").textContent = `of the ${rows.length} runs that match the filters; pruned runs do not count in means`;
  outdate("overview-plot", "parallel", "main-effects", "pairs", "scatter");
}

function buildChoices() {
  byId("measure").append(...measures.map((one) => element("option", { value: one.name }, one.title)));
  byId("measure").value = view.measure;
  byId("measure").addEventListener("change", (event) => {
    view.measure = event.target.value;
    changed();
  });
  const known = averagedOver.map((one) => one.name);
  view.pair = view.pair.map((name, place) => (known.includes(name) ? name : known[place] ?? known[0]));
  if (view.pair[0] === view.pair[1]) view.pair[1] = known.find((name) => name !== view.pair[0]) ?? known[0];
  ["pair-x", "pair-y"].forEach((id, place) => {
    byId(id).append(...averagedOver.map((one) => element("option", { value: one.name }, one.title)));
    byId(id).value = view.pair[place] ?? "";
    byId(id).addEventListener("change", (event) => choosePair(place, event.target.value));
  });
}

/** If both axes would get the same setting, swap them. */
function choosePair(place, name) {
  if (view.pair[1 - place] === name) view.pair[1 - place] = view.pair[place];
  view.pair[place] = name;
  [byId("pair-x").value, byId("pair-y").value] = view.pair;
  remember();
  outdate("pairs");
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function buildTheme() {
  const chosen = stored(localStorage, THEME);
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  const button = byId("theme");
  setStyles(button, { visibility: "visible" });
  const name = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours`);
  };
  name();
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    keep(localStorage, THEME, document.documentElement.dataset.theme);
    name();
    recolour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { name(); recolour(); });
}

function recolour() {
  showPicked();
  outdate();
}

/** Links within the page scroll without changing the address, which stores the view. */
function keepAddress() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    const target = byId(link.hash.slice(1));
    target.scrollIntoView();
    const head = target.querySelector("h2") ?? target;
    head.tabIndex = -1;
    head.focus({ preventScroll: true });
  });
}

/** The buttons of single seeds open their run. */
function openSeeds() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-run]");
    if (button) openRun(button.dataset.run, true);
  });
}

function start() {
  buildTheme();
  keepAddress();
  openSeeds();
  buildFilters();
  buildTable();
  buildChoices();
  orderTable();
  fixSize();
  addPlot("overview-plot", drawOverview, heightOfOverview);
  addPlot("parallel", drawParallel);
  addPlot("main-effects", drawMainEffects, heightOfMainEffects);
  addPlot("pairs", drawPairs, heightOfPairs);
  addPlot("importance", drawImportance, heightOfImportance);
  addPlot("scatter", drawScatter, heightOfScatter);
  addPlot("curves-plot", drawCurves, heightOfCurves);
  brushable(byId("parallel"));
  changed();
  showPicked();
  showRun();
  watch();
  window.addEventListener("resize", () => outdate());
  // the script element of Plotly comes after this one and must be parsed completely
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => setTimeout(readPlotly));
  else setTimeout(readPlotly);
}

start();
