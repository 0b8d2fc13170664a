"use strict";

// The OpenAPI document names the task types of this service, so that where keys are in use it takes one to read it.
const STORED = "tasker.key"; // sessionStorage: of this tab and this origin alone, gone when the tab is closed
const find = (id) => document.getElementById(id);

async function open(key) {
  let reply;
  try {
    reply = await fetch("/openapi.json", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  } catch {
    return ask("The service does not answer.");
  }
  if (reply.ok) {
    return show(await reply.json(), key);
  }
  sessionStorage.removeItem(STORED);
  const problem = await reply.json().catch(() => ({}));
  ask(key || reply.status !== 401 ? problem.detail || `HTTP status ${reply.status}` : "");
}

function ask(refusal) {
  find("refusal").textContent = refusal;
  find("sign-in").hidden = false;
  find("key").focus();
}

function show(spec, key) {
  find("sign-in").hidden = true;
  find("signed-in").hidden = !key;
  if (key) {
    sessionStorage.setItem(STORED, key);
  }
  const withKey = (request) => {
    if (key && new URL(request.url, location.href).origin === location.origin) {
      request.headers.Authorization ??= `Bearer ${key}`; // another one may be given under "Authorize"
    }
    return request;
  };
  // validatorUrl null: nothing is asked of any other server.
  SwaggerUIBundle({ spec, dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, requestInterceptor: withKey });
}

find("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = find("key").value.trim();
  if (/^[!-~]+$/.test(key)) {
    open(key);
  } else {
    ask("A key has visible ASCII characters alone.");
  }
});
find("forget").addEventListener("click", () => {
  sessionStorage.removeItem(STORED);
  location.reload();
});
open(sessionStorage.getItem(STORED));
