// Matches in WeChat's simulator, against a running broker.
"use strict";

const { Browser } = require("./browser");
const { pass, passDoubleTap, stopClock } = require("./clock");
const { PretendPhone } = require("./pretend-phone");
const { closeAll, config, scan, scanned, shown, tap, textOf } = require("./simulator");

const { BROKER, PAGE_SCENE } = process.env;
const DIGITS_LIFETIME = 60; // seconds
const WATCH_INTERVAL = 3; // seconds; the page asks every 2, at its next tick

let phone;

beforeEach(() => {
  stopClock();
  Object.assign(config, { broker: BROKER, proof: null });
  jest.spyOn(console, "warn").mockImplementation(() => {});
  phone = new PretendPhone("alice");
  global.wx = phone.wx;
});

afterEach(closeAll);

async function begin(app) {
  config.app = app;
  return Browser.at(BROKER, undefined, app);
}

test("the number in the browser is one of three choices of equal weight", async () => {
  const browser = await begin("number");
  const page = await scan(browser.scene);
  passDoubleTap();
  const { match } = await browser.ask();
  const choices = page.querySelectorAll(".button").map(({ dom }) => dom);
  expect(choices.length).toBe(4);
  expect(new Set(choices.map(({ className }) => className)).size).toBe(1);

  await tap(page, `choice-${match}`);
  await shown(page, "Confirmed");

  expect((await browser.ask()).access_token).toBeTruthy();
});

test("the warning names the page that shows the code", async () => {
  config.app = "code";

  const page = await scan(PAGE_SCENE);

  expect(textOf(page, "warning")).toContain("in front of you, at https://b.example");
});

describe("digits", () => {
  let browser;
  let page;

  beforeEach(async () => {
    browser = await begin("code");
    page = await scanned(browser);
    await tap(page, "confirm");
    await shown(page, "Type these digits in the browser");
    expect(textOf(page, "digits")).toMatch(/^\d{4}$/);
  });

  const type = () => browser.ask({ match: textOf(page, "digits") });
  const typeWrong = () => browser.ask({ match: textOf(page, "digits") === "0000" ? "0001" : "0000" });
  const confirms = () => phone.calls("request").filter(({ url }) => url.endsWith("/confirm")).length;

  const answered = () => shown(page, () => !page.instance.isWatching);

  // Let the page ask for the outcome, and wait for the answer.
  async function watch() {
    pass(WATCH_INTERVAL);
    await answered();
  }

  test("the view ends when the browser has sent the digits", async () => {
    expect((await type()).access_token).toBeTruthy();

    await watch();

    expect(textOf(page, "title")).toBe("Confirmed");
    expect(textOf(page, "report")).toBe("That was not me");
  });

  test("the view stays until the browser has sent the digits", async () => {
    const before = confirms();

    await watch();
    await watch();

    expect(confirms()).toBe(before + 2);
    expect(textOf(page, "title")).toBe("Type these digits in the browser");
  });

  test("wrong digits are reported", async () => {
    for (let tries = 3; tries > 0; tries -= 1) await typeWrong();

    await watch();

    expect(page.dom.textContent).toContain("The digits in the browser were wrong");
  });

  test("a loss of the network does not end the view", async () => {
    phone.isOnline = false;
    await watch();
    expect(textOf(page, "title")).toBe("Type these digits in the browser");

    phone.isOnline = true;
    await type();
    await watch();

    expect(textOf(page, "title")).toBe("Confirmed");
  });

  test("a view that was in the background has the outcome", async () => {
    page.triggerPageLifeTime("hide");
    await type();
    pass(DIGITS_LIFETIME + 30);

    page.triggerPageLifeTime("show");
    pass(1);

    await shown(page, "Confirmed");
  });

  test("the digits expire without a network", async () => {
    phone.isOnline = false;

    pass(DIGITS_LIFETIME + 1);

    await shown(page, "The digits have expired");
  });

  test("a late answer does not replace the outcome", async () => {
    const { request } = phone.wx;
    const late = await new Promise((resolve) => {
      phone.wx.request = (asked) => {
        phone.wx.request = request;
        resolve(asked);
      };
      pass(WATCH_INTERVAL);
    });
    await tap(page, "deny");
    await shown(page, "Denied");

    const answer = await new Promise((success) => { request({ ...late, success }); });
    expect(answer.data.error).toBe("access_denied");
    late.success(answer);
    await answered();

    expect(textOf(page, "title")).toBe("Denied");
  });

  test("a login can be denied instead", async () => {
    passDoubleTap();

    await tap(page, "deny");

    await shown(page, "Denied");
    expect((await browser.ask()).error).toBe("access_denied");
  });
});
