/** Elements of all views. Text is set as text, never as HTML. */

import { language, t, word } from "./texts.js";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else if (name === "value") element.value = value;
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);

export const chip = (text, kind = "") => h("span", { class: `chip ${kind}` }, text);

export function empty(title, about, act) {
  return h("div", { class: "empty" }, h("strong", {}, title), h("p", {}, about), act);
}

export function table(caption, columns, rows) {
  return h("div", { class: "scroll" },
    h("table", { role: "table" },
      h("caption", { class: "hidden" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((name) =>
        h("th", { scope: "col", role: "columnheader", class: name === "actions" ? "end" : "" },
          name === "actions" ? h("span", { class: "hidden" }, t("actions")) : t(name))))),
      h("tbody", { role: "rowgroup" }, rows.map((cells) => h("tr", { role: "row" }, cells.map((cell, at) =>
        h("td", { role: "cell", "data-name": columns[at] === "actions" ? "" : t(columns[at]),
          class: columns[at] === "actions" ? "end" : typeof cell === "number" ? "number" : "" },
        cell ?? "–")))))));
}

export const acts = (...buttons) => h("div", { class: "acts" }, buttons);

export function field(label, control, hint) {
  return h("label", {}, label, control, hint ? h("small", {}, hint) : null);
}

export function duration(seconds) {
  const steps = [["d", 86400], ["h", 3600], ["min", 60]];
  for (const [unit, size] of steps) if (seconds >= 2 * size) return t(unit, { n: Math.floor(seconds / size) });
  return t("s", { n: Math.max(0, Math.floor(seconds)) });
}

export const since = (time) => h("time", { title: new Date(time * 1000).toLocaleString(language) },
  t("ago", { time: duration(Date.now() / 1000 - time) }));

export function select(values, { label, chosen = "", texts = word, onchange } = {}) {
  const control = h("select", { onchange }, values.map((value) => h("option", { value, selected: value === chosen }, value === "" ? t("all") : texts(value))));
  return [field(label, control), control];
}

export const section = (title, ...content) => h("section", { class: "card" }, title ? h("header", {}, title) : null, content);

const STATE_KIND = { confirmed: "good", redeemed: "good", denied: "bad", expired: "warn", cancelled: "warn" };

/** A state of a login. */
export const stateChip = (state) => chip(word(state), STATE_KIND[state]);
