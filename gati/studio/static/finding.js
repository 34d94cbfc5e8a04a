// Completes filters while they are typed, marks search hits on the page of a conversation, and names the reader's time
// zone to the server. The pages work without it.
"use strict";

document.cookie = `gati_zone=${encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone || "")}; path=/; max-age=31536000; samesite=strict`;

const typing = new Map();

async function complete(input) {
  const list = document.getElementById(input.getAttribute("list"));
  const typed = input.value;
  try {
    const response = await fetch(`${root}/complete/${input.dataset.complete}?typed=${encodeURIComponent(typed)}`);
    if (response.ok && input.value === typed) list.innerHTML = await response.text();
  } catch {
    // The server is gone; the list stays as it is.
  }
}

document.addEventListener("input", (event) => {
  const input = event.target;
  if (!input.dataset || !input.dataset.complete) return;
  const options = [...document.getElementById(input.getAttribute("list")).options];
  if (event.inputType === "insertReplacementText" && options.some((option) => option.value === input.value)) {
    input.dispatchEvent(new Event("change", { bubbles: true })); // a choice was made
    return;
  }
  clearTimeout(typing.get(input));
  typing.set(input, setTimeout(complete, 120, input));
});

// A live update replaces the conversation, so the hit is kept here.
let hit = null;

function markHit(scroll) {
  const page = document.getElementById("conversation");
  const shown = hit && document.getElementById(hit.element);
  if (!page || !shown) return;
  shown.classList.add("hit");
  if (window.Highlight && hit.words.length) {
    const ranges = [];
    const texts = document.createTreeWalker(shown, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.data.toLowerCase();
      for (const word of hit.words) {
        for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
          const range = new Range();
          range.setStart(texts.currentNode, at);
          range.setEnd(texts.currentNode, Math.min(at + word.length, texts.currentNode.length));
          ranges.push(range);
        }
      }
    }
    CSS.highlights.set("hit", new Highlight(...ranges));
  }
  for (const folded of shown.querySelectorAll("details.more:not([id^='k-'])")) {
    const text = folded.textContent.toLowerCase();
    if (scroll && hit.words.some((word) => text.includes(word))) folded.open = true;
  }
  if (!scroll) return;
  for (let above = shown; above; above = above.parentElement) if (above.tagName === "DETAILS") above.open = true;
  shown.scrollIntoView({ block: "center" });
  const target = shown.querySelector("summary, .who a");
  if (target) target.focus({ preventScroll: true });
}

document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("conversation");
  if (page && page.dataset.hit) {
    const words = page.dataset.words.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) || [];
    hit = { element: page.dataset.hit, words };
    markHit(true);
  }
  document.body.addEventListener("htmx:afterSettle", () => markHit(false));
});
