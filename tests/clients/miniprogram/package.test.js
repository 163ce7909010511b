/**
 * The npm package in a mini program of the examples in docs/miniprogram.md.
 *
 * @jest-environment-options {"customExportConditions": ["node", "node-addons"]}
 */
"use strict";

const simulate = require("miniprogram-simulate");
const { Browser } = require("./browser");
const { passDoubleTap, stopClock } = require("./clock");
const { shown, tap } = require("./elements");
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
  stopClock();
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

// A page without a view: its data and methods.
function pageOf(name) {
  global.Page = (page) => { options = page; };
  require(`${PROGRAM}/${name}`);
  const page = Object.assign({ data: {} }, options);
  page.setData = (more) => Object.assign(page.data, more);
  return page;
}

// answer(request): the response of https://api.example. Other requests reach the broker.
function answerAsOwnServer(answer) {
  const { request } = phone.wx;
  phone.wx.request = (asked) => {
    if (asked.url.startsWith("https://api.example/")) asked.success(answer(asked));
    else request(asked);
  };
}

test("the component confirms a login", async () => {
  const browser = await Browser.at(BROKER);
  const login = openLogin({ scene: encodeURIComponent(browser.scene) });
  await shown(login, "Sign in to");
  for (const fact of ["Chrome 126 on Windows", "127.0.0.1", "just now"]) {
    expect(login.dom.textContent).toContain(fact);
  }
  passDoubleTap();

  await tap(login, "confirm");

  await shown(login, "Confirmed");
  expect((await browser.ask()).subject).toBe("user-alice");
});

test("an own view confirms a login", async () => {
  const page = pageOf("pages/index/own");
  const browser = await Browser.at(BROKER);

  await page.onLoad({ scene: browser.scene });
  await page.confirm({ currentTarget: { dataset: {} } });

  expect(page.data).toMatchObject({ site: "Shop", choices: [], outcome: "confirmed" });
});

test("an own view shows the error of an unknown code", async () => {
  const page = pageOf("pages/index/own");

  await page.onLoad({ scene: "unknown-scene" });

  expect(page.data).toMatchObject({ outcome: "unknown_scene" });
});

test("an own server gets another session after 401", async () => {
  const ids = [];
  answerAsOwnServer(({ header }) => {
    ids.push(header["X-WX-Id"]);
    return { statusCode: ids.length === 1 ? 401 : 200, data: { orders: [] } };
  });
  const { ask } = require(`${PROGRAM}/own_server`);

  expect(await ask("/orders")).toEqual({ statusCode: 200, data: { orders: [] } });

  expect(new Set(ids).size).toBe(2);
});

test("a page shows the message of a tunnel", async () => {
  const handlers = {};
  const created = new Promise((resolve) => {
    phone.wx.connectSocket = ({ url }) => {
      resolve(url);
      return {
        send() {},
        close() {},
        ...Object.fromEntries(["onOpen", "onMessage", "onClose", "onError"].map(
          (name) => [name, (handler) => { handlers[name] = handler; }],
        )),
      };
    };
  });
  answerAsOwnServer(() => ({ statusCode: 200, data: { url: "wss://login.example/tunnel/ticket" } }));
  const page = pageOf("pages/tunnel/tunnel");
  close = () => page.onUnload();
  const receive = (frame) => handlers.onMessage({ data: JSON.stringify(frame) });

  page.onLoad();
  page.onShow();
  expect(await created).toBe("wss://login.example/tunnel/ticket");
  handlers.onOpen();
  receive({ type: "open", tunnel_id: "t1", resume: "secret", epoch: "e1", offset: 0, recovered: true, ping_every: 25 });
  receive({ type: "message", offset: 1, data: "hello" });

  expect(page.data).toMatchObject({ status: "open", recovered: false, message: "hello" });
});

test("the chat stores a message", async () => {
  const logged = new Promise((resolve) => {
    jest.spyOn(console, "log").mockImplementation((lines) => lines.length && resolve(lines));
  });
  const { chat } = require(`${PROGRAM}/chat`);
  close = () => chat.close();

  expect(await logged).toEqual(["user-alice: hello"]);
});
