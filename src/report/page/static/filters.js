// The filters above the table: text, a chip for each value, ranges of measures.

function buildFilters() {
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  const search = element("input", {
    type: "search", id: "search", autocomplete: "off", spellcheck: "false",
    placeholder: "name, id, device \u2026",
    oninput: (event) => { view.text = event.target.value; changed(); },
  });
  search.value = view.text;
  form.append(element("label", { class: "field" }, element("span", {}, "text"), search));
  for (const setting of varied) {
    form.append(setting.is_continuous ? rangeField(setting, "number") : chips(setting));
  }
  form.append(rangeField(measureOf[data.rank.column], measureOf[data.rank.column].kind));
  form.append(element("button", { type: "button", class: "plain", id: "clear", onclick: clearFilters },
    "Show all"));
  const fixed = settings.filter((one) => !varied.includes(one));
  if (fixed.length && count) {
    const words = fixed.map((one) => `${one.title} ${settingText(one, 0)}`).join(", ");
    form.after(element("p", { class: "quiet" }, `The same in all runs: ${words}.`));
  }
}

function chips(setting) {
  const row = element("div", { class: "chips" });
  setting.labels.forEach((label, place) => {
    const box = element("input", {
      type: "checkbox", "data-setting": setting.name, "data-place": place,
      onchange: () => { toggleLevel(setting.name, place); },
    });
    row.append(element("label", { class: "chip" }, box, element("span", {}, label)));
  });
  return element("fieldset", {}, element("legend", {}, setting.title), row);
}

function toggleLevel(name, place) {
  const now = new Set(view.levels[name] ?? []);
  if (!now.delete(place)) now.add(place);
  if (now.size) view.levels[name] = [...now].sort((a, b) => a - b);
  else delete view.levels[name];
  changed();
}

/** Shares are typed in per cent. */
function rangeField(column, kind) {
  const factor = kind === "share" ? 100 : 1;
  const ends = ["at least", "at most"].map((words, end) =>
    element("input", {
      type: "number", step: "any", "aria-label": `${column.title}, ${words}`, placeholder: words,
      "data-range": column.name, "data-end": end, "data-factor": factor,
      oninput: (event) => setEnd(column.name, end, event.target.value, factor),
    }));
  const unit = kind === "share" ? " (%)" : "";
  return element("fieldset", {}, element("legend", {}, column.title + unit),
    element("div", { class: "range" }, ends[0], DASH, ends[1]));
}

function setEnd(name, end, text, factor) {
  const range = view.ranges[name] ?? [null, null];
  range[end] = text === "" || Number.isNaN(Number(text)) ? null : Number(text) / factor;
  setRange(name, range);
}

function setRange(name, range) {
  if (range[0] === null && range[1] === null) delete view.ranges[name];
  else view.ranges[name] = range;
  changed();
}

function clearFilters() {
  [view.text, view.levels, view.ranges] = ["", {}, {}];
  byId("search").value = "";
  changed();
}

/** Make the fields show what the view says, except the one that is typed in. */
function showFilters() {
  for (const box of document.querySelectorAll("#filters [data-setting]")) {
    box.checked = (view.levels[box.dataset.setting] ?? []).includes(Number(box.dataset.place));
  }
  for (const field of document.querySelectorAll("#filters [data-range]")) {
    const value = view.ranges[field.dataset.range]?.[field.dataset.end] ?? null;
    const text = value === null ? "" : String(Number((value * field.dataset.factor).toPrecision(6)));
    if (field !== document.activeElement && field.value !== text) field.value = text;
  }
}
