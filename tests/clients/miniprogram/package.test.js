/**
 * The npm package in a mini program of the examples in docs/miniprogram.md.
 *
 * @jest-environment-options {"customExportConditions": ["node", "node-addons"]}
 */
"use strict";

const simulate = require("miniprogram-simulate");
const { Browser } = require("./browser");
const { shown, sleep, tap } = require("./elements");
const { PretendPhone } = require("./pretend-phone");

const { BROKER, PROGRAM } = process.env;
const LOGIN = "pages/index/wsLogin";

let phone;
let options; // of App or Page
let close = () => {};

global.Page = (page) => { options = page; };
global.App = (app) => { options = app; };

beforeEach(() => {
  jest.resetModules();
  jest.spyOn(console, "warn").mockImplementation(() => {});
  phone = new PretendPhone("alice");
  global.wx = phone.wx;
  require(`${PROGRAM}/app`);
  options.onLaunch();
});

afterEach(() => close());

// The page of a code: its data and methods, with the component of the package.
function openLogin(query) {
  global.Page = ({ data, ...methods }) => Component({ data, methods });
  const page = simulate.render(simulate.load(`${PROGRAM}/${LOGIN}`, "page", { rootPath: PROGRAM }));
  page.attach(document.body);
  page.instance.onLoad(query);
  close = () => page.detach();
  return page.querySelector("#login");
}

test("the component confirms a login", async () => {
  const browser = await Browser.at(BROKER);
  const login = openLogin({ scene: encodeURIComponent(browser.scene) });
  await shown(login, "Sign in to");
  for (const fact of ["Chrome 126 on Windows", "127.0.0.1", "just now"]) {
    expect(login.dom.textContent).toContain(fact);
  }
  await sleep(450);

  await tap(login, "confirm");

  await shown(login, "Confirmed");
  expect((await browser.ask()).subject).toBe("user-alice");
});

test("an own view confirms a login", async () => {
  global.Page = (page) => { options = page; };
  require(`${PROGRAM}/pages/index/own`);
  const data = {};
  const page = Object.assign(options, { setData: (more) => Object.assign(data, more) });
  const browser = await Browser.at(BROKER);

  await page.onLoad({ scene: browser.scene });
  await page.confirm();

  expect(data).toMatchObject({ site: "Shop", outcome: "confirmed" });
});

test("the chat stores a message", async () => {
  const logged = new Promise((resolve) => {
    jest.spyOn(console, "log").mockImplementation((lines) => lines.length && resolve(lines));
  });
  const { chat } = require(`${PROGRAM}/chat`);
  close = () => chat.close();

  expect(await logged).toEqual(["user-alice: hello"]);
});
