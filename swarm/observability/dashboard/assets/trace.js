// A trace: what happened for one task, in order.

import { h } from "./dom.js";

export const trace = {
  view: () => "trace", nav: "tasks", query: ({ id }) => ({ id }),
  draw: () => ({ title: "Trace", body: h("p", { class: "empty" }, "Nothing here.") }),
};
