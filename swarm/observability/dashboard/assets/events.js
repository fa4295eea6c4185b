// Events as they come: filter, pause, and go on where the page stopped.

import { h } from "./dom.js";
import { agentLink, brief, clock, filters, json, none } from "./parts.js";

const KEPT = 300;
const opened = new Set();

export const events = {
  view: () => "events", nav: "events", start: () => opened.clear(),
  query: ({ query }) => query,
  take(shown, sections) {
    const { events: fresh, skipped, ...others } = sections;
    Object.assign(shown, others);
    if (skipped) shown.rows = [{ id: `gap ${sections.cursor}`, gap: true }, ...(shown.rows ?? [])];
    if (fresh) shown.rows = [...fresh.reverse(), ...(shown.rows ?? [])].slice(0, KEPT);
  },
  draw(shown, route, context) {
    const rows = shown.rows ?? [];
    return {
      title: "Events",
      body: [
        filters(route, context, [{ name: "types", label: "Type", hint: "task.*, or ** with state" }, { name: "source", label: "Source" }, { name: "correlation", label: "Correlation id" }]),
        h("p.buttons", h("button", { onclick: context.pause, "aria-pressed": String(context.isPaused) }, context.isPaused ? "Go on" : "Pause"),
          h("span", `the newest ${rows.length} are shown, the newest first`)),
        !rows.length && !context.isFresh && none("No event yet."),
        h("ol.log", rows.map((event) => event.gap ? h("li", { key: event.id, class: "gap" }, "some events were left out: there were too many to show")
          : h("li", { key: event.id, class: /fail|alert|expired|escalat|contention/.test(event.type) ? "is-bad" : "" }, h("details", { ontoggle: (toggle) => { opened[toggle.target.open ? "add" : "delete"](event.id); context.plan(); } },
            h("summary", clock(event.at), " ", h("b", event.type), " ", h("span.from", event.source), " ", h("code", brief(event.payload, 160))),
            opened.has(event.id) && h("div.more", h("p", "from ", agentLink(event.source), ", revision ", event.seq),
              h("p", "correlation ", h("a", { href: `#/events?correlation=${encodeURIComponent(event.correlation_id)}` }, event.correlation_id), event.causation_id && `, caused by ${event.causation_id}`),
              json(event.payload)))))),
      ],
    };
  },
};
