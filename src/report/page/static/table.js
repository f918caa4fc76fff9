// The table of all runs: rows are created once; sorting moves them, filtering hides them. Its parts name
// their roles, since rows that are grids are no table to some browsers.

const TABLE_MEASURES = [
  data.rank.column, "val_accuracy", "test_accuracy_best_val_acc",
  "test_per_class_accuracy_best_val_acc", "test_loss_best_val_acc",
  "epochs_run", "train_seconds",
].filter((name, place, all) => measureOf[name] && all.indexOf(name) === place)
  .filter((name) => name !== "val_accuracy" || !measureOf.best_val_accuracy);

const SHORT = {
  best_val_accuracy: "validation", val_accuracy: "validation", test_accuracy_best_val_acc: "test",
  test_per_class_accuracy_best_val_acc: "per class", test_loss_best_val_acc: "test loss",
  epochs_run: "epochs", train_seconds: "training time", learning_rate: "lr", weight_decay: "wd",
};

const tableColumns = [
  ...varied.map((one) => ({ name: one.name, title: SHORT[one.name] ?? one.title, text: true })),
  ...TABLE_MEASURES.map((name) => ({ name, title: SHORT[name] ?? measureOf[name].title, text: false })),
];
let rowElements = [];
let active = 0; // the row that receives focus with Tab

function buildTable() {
  const heads = tableColumns.map((column) =>
    element("th", { role: "columnheader", scope: "col", "data-column": column.name, class: column.text ? "t" : "" },
      element("button", { type: "button", onclick: () => sortBy(column.name) }, column.title)));
  if (!tableColumns.some((column) => column.name === "Modelname")) {
    heads.unshift(element("th", { role: "columnheader", scope: "col", class: "box" }, "run"));
  }
  const box = element("th", { role: "columnheader", scope: "col", class: "box" },
    element("span", { class: "sr" }, "compare"));
  byId("table").append(
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, box, ...heads)),
    element("tbody", { role: "rowgroup", onkeydown: moveInTable }));
  rowElements = Array.from({ length: count }, (_, row) => tableRow(row));
}

/**
 * Fix the width of each column and make every row a grid of its own, so that a filter lays out the rows in
 * sight alone: with 864 rows, laying out a table anew takes half of a click's time. The height is kept too:
 * what is below, and filters, stay under the pointer.
 */
function fixSize() {
  const table = byId("table");
  const widths = [...table.tHead.rows[0].cells].map((cell) => cell.getBoundingClientRect().width);
  const height = table.tBodies[0].rows[0]?.getBoundingClientRect().height ?? 0;
  setStyles(table, {
    "--columns": widths.map((width) => `minmax(${width}px, ${width}fr)`).join(" "), "--row": `${height}px`,
  });
  setStyles(table.parentElement, { "min-height": `${table.parentElement.offsetHeight}px` });
  table.classList.add("fixed");
}

function tableRow(row) {
  const label = runLabel(row);
  const box = element("input", {
    type: "checkbox", tabindex: "-1", "aria-label": `Compare ${label}`,
    onchange: () => togglePicked(columns.key[row]),
  });
  const open = element("button", {
    type: "button", tabindex: "-1", "aria-label": label,
    onclick: () => openRun(columns.key[row], true),
  }, dot(models[row]), models[row]);
  const alias = Boolean(columns.alias_of?.[row]);
  const cells = tableColumns.filter((column) => column.name !== "Modelname").map((column) =>
    column.text
      ? element("td", { role: "cell", class: "t" }, settingText(settingOf[column.name], row))
      : element("td", { role: "cell" }, measureText(column.name, row)));
  return element("tr", {
    role: "row", "data-key": columns.key[row], class: (alias ? "alias" : "") + (isPruned(row) ? " cut" : ""),
    title: alias ? `the same training as ${columns.alias_of[row]}` : null,
  }, element("td", { role: "cell" }, box), element("th", { role: "rowheader", scope: "row" }, open), ...cells);
}

function measureText(name, row) {
  const text = written(columns[name][row], measureOf[name].kind);
  return name === "epochs_run" && isPruned(row) ? `${text}, pruned` : text;
}

function sortBy(name) {
  const first = name in measureOf && !measureOf[name].lower_is_better ? -1 : 1;
  view.sort = view.sort[0] === name ? [name, -view.sort[1]] : [name, first];
  remember();
  orderTable();
  const words = tableColumns.find((column) => column.name === name).title;
  say(`sorted by ${words}, ${view.sort[1] > 0 ? "rising" : "falling"}`);
}

function orderTable() {
  const all = sorted(Array.from({ length: count }, (_, row) => row));
  byId("table").tBodies[0].append(...all.map((row) => rowElements[row]));
  for (const head of byId("table").querySelectorAll("[data-column]")) {
    const here = head.dataset.column === view.sort[0];
    head.setAttribute("aria-sort", here ? (view.sort[1] > 0 ? "ascending" : "descending") : "none");
  }
}

function filterTable(rows) {
  const shown = new Set(rows);
  rowElements.forEach((line, row) => { line.hidden = !shown.has(row); });
  if (!shown.has(active) && rows.length) active = sorted(rows)[0];
  setActive(active);
  const trainings = rows.filter((row) => !columns.alias_of?.[row]).length;
  const same = trainings < rows.length ? `, ${trainings} different trainings` : "";
  byId("count").textContent = `${rows.length} of ${count} runs shown${same}`;
}

function setActive(row) {
  openButton(active)?.setAttribute("tabindex", "-1");
  active = row;
  openButton(active)?.setAttribute("tabindex", "0");
}

function openButton(row) {
  return rowElements[row]?.querySelector("th button");
}

function markRows() {
  const picked = new Set(view.picked);
  rowElements.forEach((line, row) => {
    const key = columns.key[row];
    line.querySelector("input").checked = picked.has(key);
    line.classList.toggle("open", key === view.open);
    if (key === view.open) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  });
}

/** Arrow keys, Home and End move between rows; the space bar compares. */
function moveInTable(event) {
  const line = event.target.closest("tr");
  if (!line || event.target.tagName !== "BUTTON") return;
  const lines = [...byId("table").tBodies[0].rows].filter((other) => !other.hidden);
  const here = lines.indexOf(line);
  const places = {
    ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + 12, PageUp: here - 12,
    Home: 0, End: lines.length - 1,
  };
  if (event.key === " ") {
    togglePicked(line.dataset.key);
  } else if (event.key in places) {
    const next = lines[Math.min(Math.max(places[event.key], 0), lines.length - 1)];
    setActive(rowOf.get(next.dataset.key));
    openButton(active).focus();
  } else {
    return;
  }
  event.preventDefault();
}
