// What a page of another origin may try. Arguments: the dashboard, a task, what to call.
const [target, task, done] = arguments;
const order = JSON.stringify({action: "cancel", target: task, reason: "x"});
const ask = (path, options) => fetch(target + path, {credentials: "include", ...options})
    .then((answer) => answer.text()).catch((error) => "refused");
const frame = document.createElement("iframe");
frame.src = target + "/";
document.body.append(frame);
const framed = new Promise((ready) => { frame.onload = ready; setTimeout(ready, 3000); });
const stream = new Promise((ready) => {
    const source = new EventSource(target + "/api/stream/overview", {withCredentials: true});
    source.onmessage = () => ready("read");
    source.onerror = () => ready("refused");
});
const json = {"Content-Type": "application/json"};
Promise.all([
    ask("/api/overview"), ask("/api/overview", {mode: "no-cors"}), stream,
    ask("/api/actions", {method: "POST", headers: json, body: order}),
    ask("/api/actions", {method: "POST", mode: "no-cors", body: order}),
    import(target + "/assets/dom.js").then(() => "read", () => "refused"),
    framed.then(() => { try { return frame.contentDocument.title; } catch { return "refused"; } }),
]).then(done);
