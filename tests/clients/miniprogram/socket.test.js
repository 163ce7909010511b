/**
 * The library over Socket.IO, without window, document, XMLHttpRequest and WebSocket, as in
 * a mini program.
 *
 * @jest-environment node
 */
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");
const babel = require("@babel/core");
const { Browser } = require("./browser");
const { PretendPhone } = require("./pretend-phone");

const { BROKER } = process.env;
const LIBRARY = path.resolve(__dirname, "../../../mp_stub/miniprogram/scan-login");

// Compile `import` to `require`, as WeChat's developer tools do.
const COMMONJS = {
  configFile: false,
  babelrc: false,
  compact: true,
  plugins: ["@babel/plugin-transform-modules-commonjs"],
};

let phone;
let world;
let links = [];

beforeEach(() => {
  phone = new PretendPhone("alice");
  world = miniProgram(phone.wx);
});

afterEach(() => {
  for (const link of links) link.close();
  links = [];
});

// A `require` whose modules have WeChat's globals only.
function miniProgram(wx) {
  const timers = { setTimeout, clearTimeout, setInterval, clearInterval };
  const context = vm.createContext({ wx, console, ...timers });
  const loaded = new Map();
  const load = (name) => {
    const file = name.endsWith(".js") ? name : `${name}.js`;
    if (!loaded.has(file)) {
      const module = { exports: {} };
      loaded.set(file, module);
      const { code } = babel.transformSync(fs.readFileSync(file, "utf8"), COMMONJS);
      const run = vm.runInContext(`(function (require, module, exports) {${code}\n})`, context);
      run((other) => load(path.resolve(path.dirname(file), other)), module, module.exports);
    }
    return loaded.get(file).exports;
  };
  return load;
}

function scanLogin(broker = BROKER) {
  const { ScanLogin } = world(`${LIBRARY}/index`);
  const { overSocket } = world(`${LIBRARY}/socket`);
  const link = new ScanLogin({ broker, wire: overSocket });
  links.push(link);
  return link;
}

test("scan and confirm use one socket", async () => {
  const browser = await Browser.at(BROKER);
  const link = scanLogin();

  const seen = await link.scan(browser.scene);
  const { state } = await link.confirm(seen.login_id);

  expect(seen.app.name).toBe("小店 & Co");
  expect(state).toBe("confirmed");
  expect((await browser.ask()).subject).toBe("user-alice");
  expect(phone.calls("connectSocket")).toHaveLength(1);
  expect(phone.calls("request").map(({ url }) => url)).toEqual([`${BROKER}/phone/session`]);
});

test("deny ends the login", async () => {
  const browser = await Browser.at(BROKER);
  const link = scanLogin();

  await link.deny((await link.scan(browser.scene)).login_id);

  expect((await browser.ask()).error).toBe("access_denied");
});

test("reports and sign-ins use HTTP", async () => {
  const link = scanLogin();
  const { login_id } = await link.scan((await Browser.at(BROKER)).scene);
  await link.confirm(login_id);

  expect(await link.report(login_id)).toEqual({ ended: 0 });
  expect(await link.signIns()).toEqual([]);
  expect(await link.endSignIn("unknown")).toEqual({ ended: 0 });
  expect(await link.endSignIns()).toEqual({ ended: 0 });

  const paths = phone.calls("request").map(({ url }) => url.replace(BROKER, ""));
  const signIns = ["/phone/signins", "/phone/signins/unknown", "/phone/signins"];
  expect(paths).toEqual(["/phone/session", "/phone/report", ...signIns]);
});

test("an error has the broker's error word and description", async () => {
  await expect(scanLogin().scan("unknown-scene")).rejects.toMatchObject({
    error: "unknown_scene",
    message: "no active login for this code",
  });
});

test("an unknown session is replaced", async () => {
  const browser = await Browser.at(BROKER);
  const unknown = { id: "unknown", skey: "unknown" };
  phone.wx.setStorage({ key: `scan-login ${BROKER} default `, data: unknown });

  const { state } = await scanLogin().scan(browser.scene);

  expect(state).toBe("scanned");
});

test("a broken socket is opened again", async () => {
  const browser = await Browser.at(BROKER);
  const link = scanLogin();
  const { login_id } = await link.scan(browser.scene);

  phone.sockets[0].terminate();
  const { state } = await link.confirm(login_id);

  expect(state).toBe("confirmed");
  expect(phone.calls("connectSocket")).toHaveLength(2);
});

test("a missing broker is reported as unreachable", async () => {
  const key = "scan-login http://127.0.0.1:9 default ";
  phone.wx.setStorage({ key, data: { id: "some", skey: "thing" } });

  await expect(scanLogin("http://127.0.0.1:9").scan("any")).rejects.toMatchObject({
    error: "unreachable",
  });
});
