// The page of the game: it draws what the client computes, and passes on what the person does.

import { Game } from "./client.js";
import { Tunnel } from "./tunnel.js";
import { speaker } from "./words.js";

const KEYS = { 1: "rock", 2: "scissors", 3: "paper" };
const ACTS = { play: "play", again: "again", next: "play", cancel: "leave", leave: "leave" };

const $$ = (id) => document.getElementById(id);
const say = speaker(document.documentElement.lang);
const storageKey = `game ${$$("game").dataset.subject}`;

// For this tab only: what resumes the tunnel after a reload.
function store(saved) {
  if (saved) sessionStorage.setItem(storageKey, JSON.stringify(saved));
  else sessionStorage.removeItem(storageKey);
}

async function create() {
  const response = await fetch("/game/tunnel", { method: "POST" });
  const answer = await response.json();
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error_description), { isFinal: response.status === 401 });
}

const game = new Game({
  openTunnel: (handlers) => new Tunnel({
    connect: (url) => new WebSocket(url),
    create,
    saved: JSON.parse(sessionStorage.getItem(storageKey)),
    onsave: store,
    ...handlers,
  }),
  onchange: () => draw(),
});

function draw() {
  const shown = game.draw(say);
  Object.assign($$("game").dataset, { phase: shown.phase, result: shown.result });
  for (const id of ["status", "hint", "problem", "round"]) setText($$(id), shown[id]);
  for (const [id, isShown] of Object.entries(shown.shows)) $$(id).hidden = !isShown;
  drawPerson("own", shown.own);
  drawPerson("other", shown.other);
  setText($$("other-state"), shown.other.state);
  $$("other-state").hidden = !shown.other.state;
  for (const { hand, isChosen } of shown.hands) {
    const button = document.querySelector(`[data-hand=${hand}]`);
    button.disabled = !shown.canChoose;
    button.setAttribute("aria-pressed", String(isChosen));
  }
  drawClock();
}

// A text that has not changed is not announced again.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function drawPerson(side, { name, initial, points, pointsLabel, hand }) {
  setText($$(`${side}-name`), name);
  setText($$(`${side}-avatar`), initial);
  const list = $$(`${side}-points`);
  list.setAttribute("aria-label", pointsLabel);
  [...list.children].forEach((point, index) => point.classList.toggle("won", points[index]));
  const box = $$(`${side}-hand`);
  setText(box, hand.text);
  box.className = `hand ${hand.state}`;
  box.setAttribute("aria-label", hand.label);
}

// The bar that gets shorter while the round is open.
function drawClock() {
  const { view, leftMs } = game;
  const isRunning = view.phase === "choosing" && game.tunnel.status === "open";
  $$("clock").classList.toggle("running", isRunning);
  const bar = $$("clock-bar");
  for (const animation of bar.getAnimations()) animation.cancel();
  if (!isRunning) return;
  const start = { transform: `scaleX(${leftMs / view.choose_ms})` };
  bar.animate([start, { transform: "scaleX(0)" }], { duration: leftMs, fill: "forwards" });
}

for (const button of document.querySelectorAll("[data-hand]")) {
  button.addEventListener("click", () => game.choose(button.dataset.hand));
}
for (const [id, act] of Object.entries(ACTS)) {
  $$(id).addEventListener("click", () => game.act({ act }));
}
$$("here").addEventListener("click", () => {
  game.start();
  draw();
});
$$("signIn").addEventListener("click", () => location.reload());
document.addEventListener("keydown", ({ key, altKey, ctrlKey, metaKey }) => {
  if (KEYS[key] && !altKey && !ctrlKey && !metaKey) game.choose(KEYS[key]);
});
$$("sign-out").addEventListener("submit", () => game.tunnel.close());
addEventListener("online", () => game.tunnel.wake());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") game.tunnel.wake();
});
draw();
