// Creation of elements; strings become text nodes, never HTML.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") setStyles(made, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function setStyles(target, styles) {
  for (const [name, value] of Object.entries(styles)) target.style.setProperty(name, value);
}

function dot(model) {
  const place = data.models.indexOf(model) % 8;
  return element("span", { class: "dot", style: { "--c": `var(--model-${place})` } });
}

function byId(id) {
  return document.getElementById(id);
}

/** Announce a change to screen readers. */
function say(text) {
  byId("said").textContent = text;
}
