// Taps and texts of components in WeChat's simulator.
"use strict";

const { sleep } = require("miniprogram-simulate");

// Tap the button with this id, or the first one with this class.
async function tap(page, name) {
  const button = page.querySelector(`#${name}`) || page.querySelector(`.${name}`);
  const tapped = new Promise((done) => button.addEventListener("tap", done));
  button.dispatchEvent("touchstart");
  button.dispatchEvent("touchend");
  await tapped; // the simulator sends the event later
}

function textOf(page, id) {
  const node = page.querySelector(`#${id}`);
  return node ? node.dom.textContent : null;
}

async function shown(page, expected, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  const fits = (text) => (typeof expected === "string" ? text.includes(expected) : expected(text));
  while (!fits(page.dom.textContent)) {
    if (Date.now() > end) throw new Error(`expected ${expected} in ${page.dom.textContent}`);
    await sleep(20);
  }
}

module.exports = { shown, sleep, tap, textOf };
