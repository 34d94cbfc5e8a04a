// Theme, keyboard shortcuts, and state that live updates must preserve. The pages work without it.
"use strict";

// Path below which a reverse proxy serves the studio; usually empty.
const root = new URL(document.querySelector('link[rel="icon"]').href).pathname.replace("/static/icon.svg", "");

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

function showPage() {
  show(document.documentElement.dataset.theme);
  showLocalTimes();
}

document.addEventListener("DOMContentLoaded", showPage);
// Going back replaces the whole body, so no listener is bound to an element inside it.
document.addEventListener("htmx:historyRestore", showPage);
document.addEventListener("click", (event) => {
  if (!event.target.closest("#theme")) return;
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  localStorage.setItem("gati-theme", next);
  show(next);
});

// A live update replaces the <details> elements. Restore which of them the reader opened, and what they have loaded.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, requestConfig } = event.detail;
  if (!target || !requestConfig) return;
  // Skip updates while the reader is selecting text.
  const selection = document.getSelection();
  const live = requestConfig.path.includes("seen=");
  const selects = (part) => selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  if (live && (selects(target) || selects(besides(target)))) {
    event.detail.shouldSwap = false;
    return;
  }
  const focused = document.activeElement.closest("summary");
  kept.set(
    target.id,
    [...target.querySelectorAll("details"), ...besides(target).querySelectorAll("details")].map((details) => ({
      key: keyOf(details),
      open: details.open,
      loaded: details.querySelector(":scope > .lazy"),
      focused: focused !== null && focused.parentElement === details,
    })),
  );
});

document.addEventListener("htmx:afterSwap", (event) => {
  const { target } = event.detail;
  if (target) {
    for (const state of kept.get(target.id) || []) restore(state);
    kept.delete(target.id);
  }
  showLocalTimes();
});

const kept = new Map();

// An update of a conversation replaces its title and facts, too, which are above the marks.
function besides(target) {
  return (target.id === "conversation" && document.getElementById("about")) || document.createDocumentFragment();
}

// Folded texts have no id: they are found by their place in the nearest element that has one.
function keyOf(details) {
  if (details.id) return details.id;
  const within = details.parentElement.closest("[id]");
  return `${within.id} ${[...within.querySelectorAll("details:not([id])")].indexOf(details)}`;
}

function find(key) {
  const [id, place] = key.split(" ");
  const found = document.getElementById(id);
  return place === undefined || !found ? found : found.querySelectorAll("details:not([id])")[Number(place)];
}

function restore({ key, open, loaded, focused }) {
  const details = find(key);
  if (!details) return;
  if (details.open !== open) details.open = open;
  const lazy = details.querySelector(":scope > .lazy");
  if (open && loaded && lazy && loaded !== lazy) lazy.replaceWith(loaded);
  if (focused) details.querySelector("summary").focus({ preventScroll: true });
}

// The server renders times in its own time zone, and the reader may be elsewhere.
function showLocalTimes() {
  const two = (number) => String(number).padStart(2, "0");
  for (const element of document.querySelectorAll("time[datetime]:not([data-local])")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
    element.textContent = element.dataset.form === "clock" ? `${minutes}:${two(at.getSeconds())}` : `${day} ${minutes}`;
    element.title = `${at.toLocaleString()} (${Intl.DateTimeFormat().resolvedOptions().timeZone})`;
    element.dataset.local = "";
  }
}

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
      location.href = `${root}/`;
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
