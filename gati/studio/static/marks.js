// Marks conversations by keyboard, and keeps what is typed when the marks are updated. The forms work without it.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("show-keys");
  if (button) button.hidden = false;
});

document.addEventListener("click", (event) => {
  if (event.target.closest("#show-keys")) document.getElementById("keys").showModal();
  if (event.target.closest("#hide-keys")) document.getElementById("keys").close();
});

// On a page of a conversation, a key presses the button. In a list, it marks the conversation that has the focus.
function mark(what, value, button) {
  if (button) return button.click();
  const row = document.activeElement.closest("a.row[data-uid]");
  if (!row || !document.getElementById("rows")) return;
  send(row, what, row.dataset.verdict === value ? "" : value);
}

async function send(row, what, value) {
  try {
    await fetch(`${root}/conversations/${row.dataset.uid}/marks`, {
      method: "POST",
      headers: { "HX-Request": "true" },
      body: new URLSearchParams({ do: what, value }),
    });
  } catch {
    return; // the server is gone
  }
  htmx.ajax("GET", location.pathname + location.search, { target: "#rows", select: "#rows", swap: "outerHTML" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  const verdict = { g: "good", b: "bad" }[event.key];
  if (verdict) {
    mark("verdict", verdict, document.getElementById(`mark-${verdict}`));
  } else if (/^[1-5]$/.test(event.key)) {
    mark("rating", event.key, document.getElementById(`rate-${event.key}`));
  } else if (event.key === "t" || event.key === "n") {
    const field = document.getElementById(event.key === "t" ? "new-tag" : "new-note");
    if (!field) return;
    event.preventDefault();
    const folded = field.closest("details");
    if (folded) folded.open = true;
    field.focus();
  } else if (event.key === "?") {
    document.getElementById("keys").showModal();
  }
});

// An update of the marks replaces the fields. Restore what is typed in those that were not sent.
let typed = [];
let written = null;

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (!target || target.id !== "marks" || !requestConfig) return;
  const fields = [...target.querySelectorAll("textarea[id], input[id]")];
  const sent = requestConfig.elt.tagName === "FORM" ? requestConfig.elt : null;
  if (!sent && fields.includes(document.activeElement)) {
    event.detail.shouldSwap = false;
    return;
  }
  written = sent && sent.closest("details");
  typed = fields
    .filter((field) => field.value !== field.defaultValue && field.form !== sent)
    .map((field) => ({ id: field.id, value: field.value }));
});

document.addEventListener("htmx:afterSwap", (event) => {
  for (const { id, value } of typed) {
    const field = document.getElementById(id);
    if (field) field.value = value;
  }
  typed = [];
  // Fold the form of a note that was saved.
  const folded = written && document.getElementById(written.id);
  if (folded && !document.querySelector("#marks [role=alert]")) {
    folded.open = false;
    folded.querySelector("summary").focus({ preventScroll: true });
  }
  written = null;
});
