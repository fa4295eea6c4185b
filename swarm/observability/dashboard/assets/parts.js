// Small parts that several pages are made of.

import { h } from "./dom.js";

let ahead = 0; // seconds by which the swarm's clock is ahead of the browser's
export const meet = (now) => { ahead = now - Date.now() / 1000; };
const now = () => Date.now() / 1000 + ahead;

const NUMBER = new Intl.NumberFormat("en");
export const count = (number) => NUMBER.format(number ?? 0);

const two = (number) => String(number).padStart(2, "0");

export function span(seconds) {
  if (seconds == null) return "–";
  const size = Math.abs(seconds);
  if (size < 0.001) return "0 s";
  if (size < 1) return `${Math.round(seconds * 1000)} ms`;
  if (size < 60) return `${seconds.toFixed(size < 10 ? 1 : 0)} s`;
  if (size < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (size < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

export const rate = (number) => (number >= 100 ? count(Math.round(number)) : number.toFixed(number >= 10 ? 0 : 1));

export function clock(at) {
  if (at == null) return "–";
  const date = new Date(at * 1000);
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return h("time", { title: date.toISOString() }, `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`);
}

export const age = (at) => (at == null ? "–" : h("time", { title: new Date(at * 1000).toISOString() }, span(Math.max(0, now() - at))));

export function link(page, id, text, query) {
  const asked = new URLSearchParams(query).toString();
  return h("a", { href: `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${asked ? `?${asked}` : ""}` }, text ?? id);
}

export const taskLink = (id) => (id ? link("tasks", id, cut(id, 22)) : "–");
export const agentLink = (name) => (name ? (name === "owner" ? "owner" : link("agents", name)) : "–");

export const chip = (status) => h("span", { class: `chip s-${/^[a-z]+$/.test(status) ? status : "other"}` }, status);

export const part = (of, whole, kind = "") => h("span", { class: `bar ${kind}`, "width%": whole ? Math.min(100, (100 * of) / whole) : 0, "aria-hidden": "true" });

export const scroll = (label, ...kids) => h("div.scroll", { role: "region", "aria-label": label, tabindex: 0 }, kids);

/** A table of a list: `row` returns the cells of one, each a child or [class, child]. */
export function table(label, heads, list, row, empty = "Nothing here.") {
  if (!list.length) return none(empty);
  return scroll(label, h("table",
    h("thead", h("tr", heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", list.map((each, at) => h("tr", { key: each.id ?? each.name ?? each.resource ?? String(at) }, row(each).map((cell, column) => {
      const [style, child] = Array.isArray(cell) && typeof cell[0] === "string" && cell.length === 2 ? cell : ["", cell];
      return h("td", { class: style, "data-head": heads[column] }, child);
    }))))));
}

export const tableCard = (title, ...more) => card(title, table(title, ...more));
export const card = (title, ...kids) => h("section.card", { key: title }, h("h2", title), kids);

export function facts(pairs) {
  return h("dl.facts", pairs.filter(Boolean).map(([name, value]) =>
    h("div", { key: name }, h("dt", name), h("dd", value ?? "–"))));
}

export const none = (text) => h("p.empty", text);
export const gone = (what) => none(`There is no ${what} (any more).`);

export const isEmpty = (value) => value == null || (typeof value === "object" && !Object.keys(value).length);

export function json(value) {
  return h("pre.json", { tabindex: 0 }, JSON.stringify(value, null, 2));
}

export const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
export const brief = (value, most = 140) => cut(typeof value === "string" ? value : JSON.stringify(value) ?? "", most);

/** A long text: its first line, and the rest on demand. */
export function long(text, open) {
  if (!text) return "";
  const [first] = text.split("\n");
  if (first === text && text.length < 160) return h("span.error", text);
  return h("details.error", { open }, h("summary", brief(first, 160)), h("pre", text));
}

/** Fields that change the query of the page. */
export function filters(route, context, fields) {
  const change = (name) => (event) => context.go({ [name]: event.target.value, offset: "" });
  return h("form.filters", { role: "search", onsubmit: (event) => event.preventDefault() }, fields.map(({ name, label, choices, hint, options }) =>
    h("label", { key: name }, label, choices
      ? h("select", { onchange: change(name), key: `${name}:${route.query[name] ?? ""}` }, ["", ...choices].map((each) =>
        h("option", { value: each, key: each, selected: each === (route.query[name] ?? "") }, each || "all")))
      : h("input", { type: "search", value: route.query[name] ?? "", placeholder: hint, onchange: change(name), onsearch: change(name), list: options && `${name}-list`, autocomplete: "off", spellcheck: "false" }),
      options && h("datalist", { id: `${name}-list` }, options.map((each) => h("option", { value: each, key: each }))))));
}

export function pager(route, context, more, size = 100) {
  const offset = Number(route.query.offset) || 0;
  if (!offset && !more) return null;
  return h("p.buttons",
    h("button", { disabled: !offset, onclick: () => context.go({ offset: String(Math.max(0, offset - size) || "") }) }, "Back"),
    h("span", `from row ${offset + 1}`),
    h("button", { disabled: !more, onclick: () => context.go({ offset: String(offset + size) }) }, "On"));
}

export function buttons(shown, context, list) {
  const allowed = shown.actions ?? [];
  const usable = list.filter(([action]) => allowed.includes(action));
  return usable.length ? h("p.buttons", usable.map(([action, target, label]) =>
    h("button", { key: action, class: action === "cancel" ? "danger" : "", onclick: () => context.act(action, target) }, label))) : null;
}

export function spark(numbers, label) {
  const most = Math.max(1e-9, ...numbers);
  const points = numbers.map((each, at) => `${(at * 100) / Math.max(1, numbers.length - 1)},${(28 - (26 * each) / most).toFixed(1)}`).join(" ");
  return h("svg.spark", { viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label },
    numbers.length > 1 && h("polygon", { points: `0,30 ${points} 100,30` }),
    numbers.length > 1 && h("polyline", { points, "vector-effect": "non-scaling-stroke" }));
}
