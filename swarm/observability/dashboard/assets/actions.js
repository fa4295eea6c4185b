// What a person may change: a question for the reason, then one request.

import { h, render } from "./dom.js";

const WORDS = {
  retry: "Retry the task", cancel: "Cancel the task", resolve: "Resolve the task",
  pause: "Pause the agent", resume: "Resume the agent",
};

/** Ask for a reason, and do it. */
export function ask(action, target, toast) {
  const dialog = document.getElementById("dialog");
  const done = async (event) => {
    event.preventDefault();
    const form = event.target;
    const order = { action, target, reason: form.elements.reason.value };
    if (action === "resolve") {
      try { order.value = JSON.parse(form.elements.value.value || "null"); }
      catch { return form.elements.value.setCustomValidity("not JSON"), form.reportValidity(); }
    }
    dialog.close();
    try {
      const answer = await fetch("api/actions", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(order),
      });
      const said = await answer.json();
      if (answer.ok) toast(`${WORDS[action]}: done`);
      else toast(said.error);
    } catch { toast("no answer from the swarm"); }
  };
  render(dialog, [h("form", { key: `${action} ${target}`, onsubmit: done },
    h("h2", { id: "dialog-title" }, WORDS[action]),
    h("p", h("code", target)),
    action === "resolve" && h("label", "Result (JSON)",
      h("textarea", { name: "value", rows: 3, oninput: (event) => event.target.setCustomValidity("") })),
    h("label", "Reason", h("input", { name: "reason", required: true, maxlength: 500, autocomplete: "off", autofocus: true })),
    h("p.buttons",
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Leave it"),
      h("button", { type: "submit", class: action === "cancel" ? "danger" : "" }, WORDS[action])))]);
  dialog.showModal();
}
