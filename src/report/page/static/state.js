// The view: filters, sorting and selected runs, stored in the address for reloads and bookmarks.

const data = JSON.parse(document.getElementById("data").textContent);

const view = {
  text: "",
  levels: {}, // by setting: indices of the selected levels, their labels in the address
  ranges: {}, // by setting or measure: [low, high], null for an open end
  sort: bestFirst(),
  picked: data.best_keys, // keys of the runs whose curves are compared
  open: data.best_keys[0] ?? null, // key of the run shown in detail
  measure: data.rank.column,
  pair: ["learning_rate", "weight_decay"],
};

const PREFIX = "#view=";

function bestFirst() {
  return [data.rank.column, data.lower_is_better ? 1 : -1];
}

function restore() {
  if (!location.hash.startsWith(PREFIX)) return;
  try {
    const kept = JSON.parse(decodeURIComponent(location.hash.slice(PREFIX.length)));
    for (const name of Object.keys(view)) {
      if (name in kept && sameKind(view[name], kept[name])) view[name] = kept[name];
    }
  } catch {
    return; // a truncated address
  }
  forgetUnknown();
}

function sameKind(one, other) {
  return Array.isArray(one) === Array.isArray(other) && (one === null || typeof one === typeof other);
}

/** Drop unknown names and keys, since the address may come from an older page. */
function forgetUnknown() {
  const known = new Set(data.columns.key);
  const columns = new Set(data.settings.map((one) => one.name));
  const measures = new Set(data.measures.map((one) => one.name));
  view.picked = view.picked.filter((key) => known.has(key));
  if (!known.has(view.open)) view.open = data.best_keys[0] ?? null;
  if (!measures.has(view.measure)) view.measure = data.rank.column;
  if (!columns.has(view.sort[0]) && !measures.has(view.sort[0])) view.sort = bestFirst();
  view.levels = placesOf(view.levels);
  for (const name of Object.keys(view.ranges)) {
    if (!columns.has(name) && !measures.has(name)) delete view.ranges[name];
  }
}

/** Selected levels as indices, from the labels of an address: an older page may have had fewer. */
function placesOf(levels) {
  const found = {};
  for (const { name, labels } of data.settings) {
    const places = [levels?.[name] ?? []].flat().map((label) => labels.indexOf(label));
    const known = places.filter((place) => place >= 0).sort((a, b) => a - b);
    if (known.length) found[name] = known;
  }
  return found;
}

function labelsOf(levels) {
  return Object.fromEntries(data.settings.filter(({ name }) => name in levels)
    .map(({ name, labels }) => [name, levels[name].map((place) => labels[place])]));
}

function remember() {
  const kept = { ...view, levels: labelsOf(view.levels) };
  const address = PREFIX + encodeURIComponent(JSON.stringify(kept));
  try {
    history.replaceState(null, "", address);
  } catch {
    location.replace(address); // browsers that forbid replaceState for file://
  }
}

restore();
