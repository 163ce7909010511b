// Pages of the mini program in WeChat's simulator.
"use strict";

const path = require("node:path");
const simulate = require("miniprogram-simulate");
const { passDoubleTap } = require("./clock");
const { eventually, shown, tap, textOf } = require("./elements");

const ROOT = path.resolve(__dirname, "../../../mp_stub/miniprogram");
const config = require(`${ROOT}/config`);
const { configure } = require(`${ROOT}/scan-login/index`);

// The simulator supports components. A page is a component with its methods next to its data.
global.Page = ({ data, ...methods }) => Component({ data, methods });

const load = (page) => simulate.load(`${ROOT}/pages/${page}`, "page", { rootPath: ROOT });

const [HOME, LOGIN, SIGN_INS, REGISTER, ACCOUNT] = [
  "index/index", "index/wsLogin", "signins/signins", "register/register", "account/account",
].map(load);

let opened = [];

// Open a page as WeChat does. The result is the component with the content of the page: for the
// page of a code that of the library, otherwise the page itself.
function open(id, query = {}) {
  configure(config); // as in app.js
  const page = simulate.render(id);
  page.attach(document.body);
  page.instance.onLoad(query);
  if (page.instance.onShow) page.instance.onShow();
  opened.push(page);
  return page.querySelector("#login") || page;
}

function closeAll() {
  for (const page of opened) {
    if (page.instance.onUnload) page.instance.onUnload();
    page.detach();
  }
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
  passDoubleTap();
  return page;
}

module.exports = {
  ACCOUNT, HOME, LOGIN, REGISTER, SIGN_INS, closeAll, config, eventually, load, open, scan, scanned, shown, tap, textOf,
};
