// A trace: what happened for one task, as a sequence and as text.

import { h } from "./dom.js";
import { chip, clock, cut, gone, scroll, span, taskLink } from "./parts.js";

const WIDE = 150, TALL = 26, TOP = 34, LEFT = 92;

function sequence({ lanes, steps }) {
  const x = (lane) => LEFT + lanes.indexOf(lane) * WIDE + WIDE / 2;
  const width = LEFT + lanes.length * WIDE, height = TOP + steps.length * TALL + 12;
  return scroll("Sequence", h("svg.graph.trace", { width, height, role: "img", "aria-label": "The same as the list below" },
    lanes.map((lane) => h("g", { key: lane }, h("line", { x1: x(lane), x2: x(lane), y1: TOP, y2: height }), h("text", { x: x(lane), y: 20 }, cut(lane, 20)))),
    steps.map((step, at) => {
      const y = TOP + at * TALL + 20, from = x(step.from), to = step.to ? x(step.to) : from;
      const way = Math.sign(to - from);
      return h("g", { key: String(at), class: step.failed ? "bad" : "" }, h("title", step.text),
        h("text.note.start", { x: 4, y }, `+${span(step.at - steps[0].at)}`),
        way ? h("path", { d: `M${from},${y} H${to - way * 7} m0,-4 l${way * 7},4 l${-way * 7},4 z` }) : h("circle", { cx: from, cy: y, r: 4 }),
        h(way ? "text.note" : "text.note.start", { x: way ? (from + to) / 2 : from + 8, y: y - 5 }, cut(step.text, way ? 24 * Math.max(1, Math.abs(to - from) / WIDE) : 40)));
    })));
}

export const trace = {
  view: () => "trace", nav: "tasks", query: ({ id }) => ({ id }),
  draw(shown, route) {
    const found = shown.trace;
    if (found === undefined) return { title: "Trace", body: null };
    if (found === null) return { title: "Trace", body: gone(`task ${route.id}`) };
    return {
      title: `Trace of ${found.kind}`,
      body: [
        h("p.lead", chip(found.status), " ", taskLink(found.task)),
        found.is_cut && h("p", "Some steps are left out: they are too many, or older than the log."),
        !found.asks_recorded && h("p", "Asks are shown while the program has a timeline open: swarm.timeline()."),
        h("section.card", sequence(found)),
        h("section.card", h("h2", "As a list"), h("ol.trail", found.steps.map((step, at) => h("li", { key: String(at), class: step.failed ? "error" : "" },
          clock(step.at), " ", h("b", step.from), step.to && ` → ${step.to}`, ": ", step.text)))),
      ],
    };
  },
};
