// Follows the workspace and acts for the person chosen on the page. All HTML comes from the server, escaped there;
// whatever this file writes itself goes in by textContent.
"use strict";

const me = document.body.dataset.me;
const channel = document.body.dataset.channel;
const byId = (id) => document.getElementById(id);
const pane = byId("messages");
const viewDialog = byId("view");
let version = document.body.dataset.version;
let viewKey = "";
let toastTimer = 0;

function toast(text) {
  const box = byId("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, 6000);
}

async function act(name, more) {
  try {
    const response = await fetch("/page/do", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ as: me, act: name, ...more }),
    });
    const answer = await response.json();
    if (!answer.ok) { toast(answer.error); return null; }
    return answer;
  } catch {
    toast("The workspace does not answer.");
    return null;
  }
}

// -- drawing

const drawn = new Map();

function put(id, html) {
  if (drawn.get(id) !== html) byId(id).innerHTML = html;
  drawn.set(id, html);
}

function atBottom() {
  return pane.scrollHeight - pane.scrollTop - pane.clientHeight < 60;
}

function drawMessages(messages) {
  const stay = atBottom();
  const keys = new Set(messages.map((m) => m.key));
  for (const row of [...pane.children]) if (!keys.has(row.id)) { row.remove(); drawn.delete(row.id); }
  let before = null;
  for (const m of messages) {
    let row = byId(m.key);
    if (!row) {
      row = document.createElement("div");
      row.className = "row";
      row.id = m.key;
      if (before) before.after(row); else pane.prepend(row);
    }
    if (drawn.get(m.key) !== m.html) {
      const open = row.querySelector("details[open]") !== null;
      const typed = row.querySelector(".reply input")?.value ?? "";
      row.innerHTML = m.html;
      const thread = row.querySelector("details");
      if (thread && open) thread.open = true;
      if (typed) row.querySelector(".reply input").value = typed;
      drawn.set(m.key, m.html);
    }
    before = row;
  }
  if (stay) pane.scrollTop = pane.scrollHeight;
}

function drawView(view) {
  if (!view) {
    viewKey = "";
    if (viewDialog.open) viewDialog.close();
    return;
  }
  if (view.key !== viewKey) {
    // an update of the same view keeps what was typed into fields that are still there, as Slack does
    const typed = view.key.split(" ")[0] === viewKey.split(" ")[0] ? formValues(viewDialog.querySelector("form")) : {};
    viewDialog.innerHTML = view.html;
    viewKey = view.key;
    for (const element of viewDialog.querySelectorAll("[data-action]")) {
      fill(element, typed[element.dataset.block]?.[element.dataset.action]);
    }
  }
  if (!viewDialog.open) viewDialog.showModal();
}

function draw(state) {
  version = state.version;
  put("sidebar", state.sidebar);
  put("head", state.head);
  put("foot", state.foot);
  drawMessages(state.messages);
  drawView(state.view);
  if (document.visibilityState === "visible" && document.querySelector("#sidebar .here.unread")) act("read", { channel });
}

async function follow() {
  let since = "";
  for (;;) {
    try {
      const query = new URLSearchParams({ as: me, channel, since });
      const response = await fetch(`/page/state?${query}`);
      if (!response.ok) throw new Error(response.statusText);
      draw(await response.json());
      since = version;
    } catch {
      await new Promise((wake) => { setTimeout(wake, 1000); });
    }
  }
}

// -- acting

function confirmed(element) {
  if (!element.dataset.confirm) return Promise.resolve(true);
  const words = JSON.parse(element.dataset.confirm);
  const dialog = byId("confirm");
  dialog.querySelector("h2").textContent = words.title;
  dialog.querySelector("p").textContent = words.text;
  const [no, yes] = dialog.querySelectorAll("button");
  no.textContent = words.deny;
  yes.textContent = words.confirm;
  yes.classList.toggle("danger", element.classList.contains("danger"));
  dialog.showModal();
  return new Promise((done) => {
    const finish = (value) => { dialog.onclose = null; dialog.close(); done(value); };
    no.onclick = () => finish(false);
    yes.onclick = () => finish(true);
    dialog.onclose = () => finish(false);
  });
}

function valueOf(element) {
  const kind = element.dataset.kind;
  if (kind === "button") return null;
  if (kind === "checkboxes") return [...element.querySelectorAll("input:checked")].map((box) => box.value);
  if (kind === "radio_buttons") return element.querySelector("input:checked")?.value ?? null;
  if (kind === "multi_static_select") return [...element.selectedOptions].map((option) => option.value);
  return element.value || null;
}

async function interact(element) {
  const field = element.closest(".field");
  if (field && !("dispatch" in field.dataset)) return;
  if (!(await confirmed(element))) { if (element.tagName === "SELECT") element.value = ""; return; }
  const where = { block_id: element.dataset.block, action_id: element.dataset.action, value: valueOf(element) };
  if (element.dataset.url) window.open(element.dataset.url, "_blank", "noopener,noreferrer");
  element.disabled = true;
  const form = element.closest("form[data-view]");
  const ts = element.closest("article[data-ts]")?.dataset.ts;
  const answer = form
    ? await act("view_click", { view_id: form.dataset.view, ...where })
    : await act("click", { channel, ts, ...where });
  element.disabled = false;
  if (element.classList.contains("overflow")) element.value = "";
  if (answer?.seen && form) showErrors(form, {}, answer.seen);
}

function showErrors(form, errors, seen) {
  for (const field of form.querySelectorAll(".field")) {
    const text = errors[field.dataset.field];
    const line = field.querySelector(".error");
    field.classList.toggle("wrong", Boolean(text));
    line.hidden = !text;
    line.textContent = text ?? "";
  }
  const line = form.querySelector(".view-error");
  line.hidden = !seen;
  line.textContent = seen ?? "";
  form.querySelector(".wrong")?.scrollIntoView({ block: "nearest" });
}

function formValues(form) {
  const values = {};
  for (const element of form.querySelectorAll("[data-action]")) {
    if (element.dataset.kind === "button") continue;
    (values[element.dataset.block] ??= {})[element.dataset.action] = valueOf(element);
  }
  return values;
}

function fill(element, value) {
  if (value === undefined || value === null) return;
  const boxes = element.querySelectorAll("input");
  for (const box of boxes) box.checked = [value].flat().includes(box.value);
  if (element.dataset.kind === "multi_static_select") {
    for (const option of element.options) option.selected = value.includes(option.value);
  } else if (!boxes.length && element.tagName !== "BUTTON") element.value = value;
}

async function submitView(form) {
  const values = formValues(form);
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  const answer = await act("submit", { view_id: form.dataset.view, values });
  button.disabled = false;
  if (answer) showErrors(form, answer.errors, answer.seen);
}

async function send(form, more) {
  const box = form.elements.text;
  const text = box.value.trim();
  if (!text) return;
  box.value = "";
  pane.scrollTop = pane.scrollHeight;
  if (!(await act("type", { channel, text, ...more }))) box.value = text;
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("button");
  if (!target) {
    if (document.body.classList.contains("menu") && !event.target.closest("#side")) toggleMenu(false);
    return;
  }
  if (target.id === "menu") toggleMenu(!document.body.classList.contains("menu"));
  else if (target.id === "join") act("join", { channel });
  else if (target.dataset.close) closeView(target.closest("form"), target.dataset.close === "all");
  else if (target.dataset.action) interact(target);
});

document.addEventListener("change", (event) => {
  if (event.target.id === "me") {
    location.href = `/?as=${encodeURIComponent(event.target.value)}&channel=${encodeURIComponent(channel)}`;
    return;
  }
  const element = event.target.closest("[data-action]");
  if (element && element.tagName !== "BUTTON") interact(element);
});

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.view) submitView(form);
  else if (form.id === "composer") send(form, {});
  else if (form.dataset.thread) send(form, { thread_ts: form.dataset.thread });
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && event.target.matches("#composer textarea")) {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
});

function toggleMenu(open) {
  document.body.classList.toggle("menu", open);
  byId("menu").setAttribute("aria-expanded", String(open));
}

function closeView(form, everything) {
  if (form) act("close", { view_id: form.dataset.view, everything });
}

viewDialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  closeView(viewDialog.querySelector("form"), false);
});

if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ block: "center" });
else pane.scrollTop = pane.scrollHeight;
follow();
