// What a task says: its page follows the end, and keeps the last 1,000 lines.
(() => {
  "use strict";
  const MOST = 1000, $ = q => document.querySelector(q);
  const out = $("#out"), log = $("#log"), follow = $("#follow");
  let follows = true;
  function press(on) { follows = on; follow.setAttribute("aria-pressed", on); if (on) end(); }
  function end() { for (const box of [out, log]) if (follows) box.scrollTop = box.scrollHeight; }
  function trim() {
    let lines = 0, piece = out.lastChild;
    for (; piece && lines <= MOST; piece = piece.previousSibling) lines += piece.textContent.split("\n").length - 1;
    while (piece && out.firstChild !== piece) out.firstChild.remove();
    if (piece) piece.remove();
    while (log.children.length > MOST) log.firstElementChild.remove();
  }
  follow.hidden = $("#wrap").hidden = false;
  follow.addEventListener("click", () => press(!follows));
  out.addEventListener("scroll", () => {
    const atEnd = out.scrollHeight - out.scrollTop - out.clientHeight < 8;
    if (atEnd !== follows) press(atEnd);
  });
  const watch = new MutationObserver(() => { trim(); watch.takeRecords(); end(); });
  for (const box of [out, log]) watch.observe(box, { childList: true });
  end();
})();
