// The shell: which page is shown, and the stream that keeps it up to date.

import { h, render } from "./dom.js";
import { PAGES } from "./pages.js";
import { meet } from "./parts.js";
import { ask } from "./actions.js";

const NAV = [
  ["", "Overview"], ["tasks", "Tasks"], ["agents", "Agents"], ["state", "State"],
  ["locks", "Locks"], ["pipelines", "Pipelines"], ["events", "Events"],
];
const main = document.getElementById("main");
let page, route, shown, source, cursor, isAsked, isPaused, retry, isFresh;

function readRoute() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name, id: decode(rest.join("/")), query: Object.fromEntries(new URLSearchParams(query)) };
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function go() {
  if (location.hash === "#main") return;
  const before = route;
  route = readRoute();
  page = PAGES[route.name] || PAGES[""];
  shown = {};
  cursor = "";
  isPaused = false;
  isFresh = true;
  page.start?.();
  drawNav();
  draw();
  open();
  if (before && before.name + before.id !== route.name + route.id) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function open() {
  close();
  if (document.hidden || isPaused) return;
  say(cursor ? "live" : "connecting…");
  const query = new URLSearchParams(page.query(route));
  if (cursor) query.set("after", cursor);
  source = new EventSource(`api/stream/${page.view(route)}?${query}`);
  source.onmessage = (message) => {
    cursor = message.lastEventId;
    const sections = JSON.parse(message.data);
    if (page.take) page.take(shown, sections);
    else Object.assign(shown, sections);
    if (sections.now) meet(sections.now);
    if (sections.swarm) drawSwarm(sections.swarm);
    isFresh = false;
    say("live");
    plan();
  };
  source.onopen = () => say("live");
  source.onerror = () => {
    say("connection lost", "bad");
    if (source.readyState === EventSource.CLOSED) lost();
  };
}

function close() {
  clearTimeout(retry);
  if (source) source.close();
  source = undefined;
}

async function lost() {
  close();
  try {
    const answer = await fetch("api/overview");
    if (answer.status === 401) return say("signed out: open the URL that the program printed", "bad");
    if (answer.ok && (await answer.json()).swarm.phase === "closed") say("the swarm has ended", "bad");
  } catch { /* it will be tried again */ }
  retry = setTimeout(open, 2000);
}

function plan() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => { isAsked = false; draw(); });
}

const context = {
  go(query) {
    const kept = Object.entries({ ...route.query, ...query }).filter(([, value]) => value);
    const text = new URLSearchParams(kept).toString();
    location.hash = `#/${route.name}${route.id ? `/${encodeURIComponent(route.id)}` : ""}${text ? `?${text}` : ""}`;
  },
  pause() {
    isPaused = !isPaused;
    if (isPaused) { close(); say("paused"); } else open();
    plan();
  },
  get isPaused() { return isPaused; },
  get isFresh() { return isFresh; },
  act: (action, target) => ask(action, target, toast),
  plan,
};

function draw() {
  const { title, body } = page.draw(shown, route, context);
  document.title = `${title} · ${document.getElementById("name").textContent}`;
  render(main, [h("h1", title), shown.problem && h("p.problem", { role: "alert" }, shown.problem), body]);
  main.setAttribute("aria-busy", String(isFresh));
}

function drawNav() {
  const current = page.nav ?? route.name;
  render(document.getElementById("nav"), [h("ul", NAV.map(([name, label]) =>
    h("li", { key: name }, h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : undefined }, label))))]);
}

function drawSwarm(swarm) {
  const name = document.getElementById("name");
  const text = swarm.phase === "open" ? swarm.name : `${swarm.name} (${swarm.phase})`;
  if (name.textContent !== text) name.textContent = text;
}

function say(text, kind = "") {
  const live = document.getElementById("live");
  if (live.textContent !== text) live.textContent = text;
  live.className = text === "live" ? "on" : kind;
}

let toastTimer;
function toast(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.className = "toast shown";
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { place.className = "toast"; }, 6000);
}

addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
setInterval(() => { if (!document.hidden && !isPaused && page.ages) plan(); }, 1000);
go();
