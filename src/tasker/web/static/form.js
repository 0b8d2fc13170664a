// The form of a task type and its JSON, in step. Without this file the server converts one into the other.
(() => {
  "use strict";
  const $ = (q, from = document) => from.querySelector(q), $$ = (q, from = document) => [...from.querySelectorAll(q)];

  // Numbers travel as they were typed: 2**53 is no limit here.
  const text = JSON.stringify, isNumber = t => /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(t);
  function read(scope) {
    const parts = [];
    for (const field of scope.children) {
      if (!field.matches(".field")) continue;
      const value = valueOf($(":scope>.v", field));
      if (value !== undefined) parts.push([field.dataset.pointer.split("/").pop(), value]);
    }
    return parts.length ? "{" + parts.map(([k, v]) => text(k) + ": " + v).join(", ") + "}" : "{}";
  }
  function valueOf(box) {
    const opt = $(":scope>.opt", box);
    if (opt) {
      const mark = $(":scope>.tabs :checked", opt);
      if (!mark || mark.value === "null") return undefined;
      const inner = $(":scope>.var" + mark.className.slice(1), opt);
      const value = valueOf(inner), tag = mark.parentNode.textContent.trim();
      return $(":scope>.sub", inner) && tag !== "set" ? value.replace("{", `{"via": ${text(tag)}${value === "{}" ? "" : ", "}`) : value;
    }
    const sub = $(":scope>.sub", box); if (sub) return read(sub);
    const list = $(":scope>.items", box);
    if (list) {
      const items = $$(":scope>.item", list); if (!items.length) return undefined;
      if (list.dataset.map) return "{" + items.map(item => $$("input", item).map(i => text(i.value)).join(": ")).join(", ") + "}";
      return "[" + items.map(item => one(item)).join(", ") + "]";
    }
    const chosen = $(":scope>.tabs :checked", box); if (chosen) return text(chosen.value);
    const control = $("input,textarea,select", box); if (!control) return undefined;
    return scalar(control);
  }
  function one(item) {
    const pair = $(".pair", item); if (!pair) return scalar($("input,textarea,select", item)) ?? '""';
    return "{" + [...pair.children].map(v => [$("[name]", v).name.split("/").pop().replace("#", ""), valueOf(v)]).filter(([, v]) => v !== undefined).map(([k, v]) => text(k) + ": " + v).join(", ") + "}";
  }
  function scalar(control) {
    if (control.type === "checkbox") return control.checked ? "true" : undefined;
    if (control.value === "") return control.required ? '""' : undefined;
    return control.classList.contains("n") && control.type !== "date" && isNumber(control.value) || control.dataset.kind === "json" ? control.value : text(control.value);
  }
  function step() { const area = $("#json"), form = $("#as-form"); if (area && form) area.value = pretty(read(form)); }
  function pretty(json) { // keeps every number's text
    let depth = 0, out = "";
    for (const [t] of json.matchAll(/"(?:[^"\\]|\\.)*"|[^\s"]|\s+/g)) {
      if ("{[".includes(t)) out += t + "\n" + "  ".repeat(++depth);
      else if ("}]".includes(t)) out += "\n" + "  ".repeat(--depth) + t;
      else if (t === ",") out += ",\n" + "  ".repeat(depth);
      else if (t === ":") out += ": ";
      else if (t.trim()) out += t;
    }
    return out.replace(/([{[])\s+([}\]])/g, "$1$2");
  }
  function renumber(list) { $$(":scope>.item", list).forEach((item, i) => $$("[name*='/-']", item).forEach(c => { const old = c.id; c.name = c.name.replace("/-", "/" + i); c.id = old.replace("--", "-" + i); $$("label", item).forEach(l => { if (l.htmlFor === old) l.htmlFor = c.id; }); })); }

  addEventListener("DOMContentLoaded", () => {
    document.addEventListener("input", event => { if (event.target.closest("#as-form")) step(); });
    document.addEventListener("click", event => {
      const at = event.target.closest("button");
      if (!at) return;
      if (at.dataset.tab) { if (at.dataset.tab === "json") step(); for (const tab of $$("[data-tab]")) { const on = tab === at; tab.setAttribute("aria-selected", on); $("#" + tab.getAttribute("aria-controls")).hidden = !on; } }
      else if (at.name === "add") { event.preventDefault(); const list = $(`[data-array="${at.value}"],[data-map="${at.value}"]`); list.append($("template", list).content.cloneNode(true)); renumber(list); $("input,textarea,select", list.lastElementChild)?.focus(); step(); }
      else if (at.name === "remove") { event.preventDefault(); at.closest(".item").remove(); step(); }
    });
  });
})();
