// Pages of the mini program in WeChat's simulator.
"use strict";

const path = require("node:path");
const simulate = require("miniprogram-simulate");

const ROOT = path.resolve(__dirname, "../../../mp_stub/miniprogram");
const config = require(`${ROOT}/config`);
const { sleep } = simulate;

// The simulator supports components. A page is a component with its methods next to its data.
global.Page = ({ data, ...methods }) => Component({ data, methods });

const load = (page) => simulate.load(`${ROOT}/pages/${page}`, "page", { rootPath: ROOT });

const [HOME, LOGIN, SIGN_INS, REGISTER] = [
  "index/index", "index/wsLogin", "signins/signins", "register/register",
].map(load);

let opened = [];

function open(id, query = {}) {
  const page = simulate.render(id);
  page.attach(document.body);
  page.instance.onLoad(query);
  if (page.instance.onShow) page.instance.onShow();
  opened.push(page);
  return page;
}

function closeAll() {
  for (const page of opened) if (page.instance.onUnload) page.instance.onUnload();
  opened = [];
}

// Open the page as WeChat does after a scan, with every possible character percent-encoded.
async function scan(scene) {
  const hex = (character) => `%${character.charCodeAt().toString(16)}`;
  const page = open(LOGIN, { scene: scene.replace(/[^A-Za-z]/g, hex) });
  await shown(page, (text) => !text.includes("Reading the code") && !text.includes("正在识别"));
  return page;
}

// The page of a scanned login, after the delay for a double tap.
async function scanned(browser) {
  const page = await scan(browser.scene);
  expect(page.querySelector("#confirm")).toBeTruthy();
  await sleep(450);
  return page;
}

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

module.exports = {
  HOME, LOGIN, REGISTER, SIGN_INS, closeAll, config, load, open, scan, scanned, shown, sleep, tap, textOf,
};
