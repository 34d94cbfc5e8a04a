/* Thumbs under an answer: <gati-feedback token="…"></gati-feedback>
   The token comes from Feedback.token(). Ratings are posted to the folder of this script. */
(() => {
  "use strict";
  const script = document.currentScript;
  const endpoint = new URL(script && script.src ? script.src : "/feedback/widget.js", location.href)
    .href.replace(/\/widget\.js([?#].*)?$/, "");
  const styles = new CSSStyleSheet();
  styles.replaceSync(`
    :host { display: inline-flex; gap: .35em; align-items: center; font: inherit; }
    :host([hidden]) { display: none; }
    button { font: inherit; line-height: 1; padding: .25em .45em; border: 1px solid transparent; border-radius: .4em;
      background: none; color: inherit; cursor: pointer; opacity: .65; }
    button:hover, button:focus-visible, button[aria-pressed="true"] { opacity: 1; border-color: currentColor; }
    form { display: inline-flex; gap: .35em; }
    form[hidden] { display: none; }
    input { font: inherit; padding: .2em .4em; border: 1px solid currentColor; border-radius: .4em; color: inherit;
      background: transparent; min-width: 12em; }
  `);

  class GatiFeedback extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return;
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [styles];
      this.up = this.button("👍", this.getAttribute("label-up") || "Good answer", true);
      this.down = this.button("👎", this.getAttribute("label-down") || "Bad answer", false);
      this.status = document.createElement("span");
      this.status.setAttribute("role", "status");
      root.append(this.up, this.down, this.form(), this.status);
    }

    button(text, label, rating) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.title = label;
      button.setAttribute("aria-label", label);
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => this.rate(rating));
      return button;
    }

    form() {
      this.comment = document.createElement("form");
      this.comment.hidden = true;
      const input = document.createElement("input");
      input.maxLength = 5000;
      input.placeholder = this.getAttribute("label-comment") || "What was wrong?";
      input.setAttribute("aria-label", input.placeholder);
      const send = document.createElement("button");
      send.textContent = this.getAttribute("label-send") || "Send";
      this.comment.append(input, send);
      this.comment.addEventListener("submit", (event) => {
        event.preventDefault();
        if (input.value.trim()) this.rate(this.rating, input.value.trim());
        this.comment.hidden = true;
      });
      return this.comment;
    }

    async rate(rating, feedback) {
      this.rating = rating;
      this.up.setAttribute("aria-pressed", String(rating));
      this.down.setAttribute("aria-pressed", String(!rating));
      this.comment.hidden = rating || feedback !== undefined || this.hasAttribute("no-comment");
      let ok = false;
      try {
        const body = JSON.stringify({ token: this.getAttribute("token"), rating, feedback });
        const answer = await fetch(endpoint, { method: "POST", headers: { "content-type": "application/json" }, body });
        ok = answer.ok;
      } catch { /* offline: the status says so */ }
      this.status.textContent = ok ? "" : this.getAttribute("label-failed") || "Not sent. Please try again.";
      this.dispatchEvent(new CustomEvent("gati-rated", { detail: { rating, feedback, ok }, bubbles: true }));
    }
  }

  if (!customElements.get("gati-feedback")) customElements.define("gati-feedback", GatiFeedback);
})();
