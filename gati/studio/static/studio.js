// Theme, keyboard shortcuts, and state that live updates must preserve. The pages work without it.
"use strict";

const themes = ["auto", "light", "dark"];

function show(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  if (button) {
    button.hidden = false;
    button.textContent = `Theme: ${theme}`;
  }
}

show(localStorage.getItem("gati-theme") || "auto");

document.addEventListener("DOMContentLoaded", () => {
  show(document.documentElement.dataset.theme);
  document.getElementById("theme").addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    localStorage.setItem("gati-theme", next);
    show(next);
  });

  // A live update replaces the <details> elements. Restore which of them the reader opened, and what they have loaded.
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    event.detail.target.gatiState = new Map(
      [...event.detail.target.querySelectorAll("details[id]")].map((d) => [
        d.id,
        { open: d.open, loaded: d.querySelector(":scope > .lazy") },
      ]),
    );
    // Skip updates while the reader is selecting text.
    const selection = document.getSelection();
    const live = event.detail.requestConfig.path.includes("seen=");
    if (live && selection && !selection.isCollapsed && event.detail.target.contains(selection.anchorNode)) {
      event.detail.shouldSwap = false;
    }
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    const state = event.detail.target.gatiState || new Map();
    for (const [id, { open, loaded }] of state) {
      const details = document.getElementById(id);
      if (!details) continue;
      if (details.open !== open) details.open = open;
      const lazy = details.querySelector(":scope > .lazy");
      if (open && loaded && lazy && loaded !== lazy) lazy.replaceWith(loaded);
    }
  });
});

function rows() {
  return [...document.querySelectorAll("a.row, .turn > .bubble.user > .who > a")];
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    const search = document.getElementById("q");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    } else {
      location.href = "/";
    }
  } else if (event.key === "j" || event.key === "k") {
    const all = rows();
    const at = all.indexOf(document.activeElement);
    const next = event.key === "j" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
    if (all[next]) all[next].focus();
  } else if (event.key === "e") {
    const all = [...document.querySelectorAll("details.work, details.step")];
    const open = all.some((details) => !details.open);
    for (const details of all) details.open = open;
  }
});
