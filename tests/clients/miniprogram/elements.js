// Taps and texts of components in WeChat's simulator.
"use strict";

const { sleep } = require("miniprogram-simulate");

const WAIT_MS = 30_000;

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

// Wait until the page has a text, or until a function of its text returns true.
async function shown(page, expected) {
  const fits = (text) => (typeof expected === "string" ? text.includes(expected) : expected(text));
  await eventually(() => fits(page.dom.textContent), () => `${expected} in ${page.dom.textContent}`);
}

// Wait until the condition holds; it may be asynchronous. describe(): the condition in words.
async function eventually(condition, describe = () => condition) {
  const end = performance.now() + WAIT_MS; // Date may be the clock of a test
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`expected ${describe()}`);
    await sleep(20);
  }
}

module.exports = { eventually, shown, tap, textOf };
