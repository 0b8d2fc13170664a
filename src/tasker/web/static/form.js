// The form of a task type, without loading the page anew: rows are added and removed, form and JSON change places. The
// server does all of it; without this file the same buttons load the page.
(() => {
  "use strict";
  const $ = (q, from = document) => from.querySelector(q), $$ = (q, from = document) => [...from.querySelectorAll(q)];

  async function ask(form, by) {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, by)), headers: { accept: "text/html" } });
    if (answer.redirected || ![200, 422].includes(answer.status)) throw new Error(answer.status);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }
  function put(page, id) {
    const old = document.getElementById(id), fresh = page.getElementById(id);
    if (!old || !fresh) throw new Error(id);
    for (const typed of $$("input[type=password]", old)) { // the server never sends what was typed there
      const control = $$("input[type=password]", fresh).find(one => one.name === typed.name);
      if (control) control.value = typed.value;
    }
    for (const part of $$("details[open][id]", old)) { const same = $("#" + part.id, fresh); if (same) same.open = true; }
    old.replaceWith(fresh);
    return fresh;
  }

  document.addEventListener("submit", async event => {
    const form = event.target, by = event.submitter;
    if (form.id !== "form" || !by || !("part" in by.dataset)) return;
    event.preventDefault();
    const value = by.value;
    form.setAttribute("aria-busy", "true");
    try {
      const page = await ask(form, by), fresh = put(page, "run");
      put(page, "same");
      const again = $$("button[name=do]", fresh).find(one => one.value === value);
      ($("[autofocus]", fresh) || again || $("[aria-current=true]", fresh))?.focus();
    } catch { delete by.dataset.part; form.requestSubmit(by); }
  });

  // "The same as" follows what was typed, once a field is left.
  let asked = 0;
  document.addEventListener("change", async event => {
    const form = event.target.form, by = form && $("#sketch");
    if (!form || form.id !== "form" || !by) return;
    const own = ++asked;
    try { const page = await ask(form, by); if (own === asked) put(page, "same"); }
    catch { /* it is brought up to date with the next answer */ }
  });

  document.addEventListener("click", event => {
    const at = event.target.closest("[data-same]");
    if (!at) return;
    for (const one of $$("[data-same]")) one.setAttribute("aria-pressed", one === at);
    for (const one of $$("#same pre")) one.hidden = one.id !== at.dataset.same;
    $("#same [data-copy]").dataset.copy = at.dataset.same;
  });
})();
