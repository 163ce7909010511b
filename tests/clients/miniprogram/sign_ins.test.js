// The list of sign-ins, and reports, in WeChat's simulator, against a running broker.
"use strict";

const { pass, passDoubleTap, stopClock } = require("./clock");
const { PretendPhone, call } = require("./pretend-phone");
const { SIGN_INS, closeAll, config, open, scanned, shown, tap } = require("./simulator");

const { BROKER, BROWSERS } = process.env;

let people = 0;
let person;
let phone;

beforeEach(() => {
  stopClock();
  Object.assign(config, { broker: BROKER, app: "default", proof: null });
  jest.spyOn(console, "warn").mockImplementation(() => {});
  become(`person-${people += 1}`);
});

afterEach(closeAll);

function become(name, options) {
  person = name;
  phone = new PretendPhone(name, options);
  global.wx = phone.wx;
}

async function ask(act, fields) {
  const query = new URLSearchParams(fields);
  return (await call({ url: `${BROWSERS}/${act}?${query}`, method: "POST" })).data;
}

const signIn = (fields) => ask("sign_in", { name: person, ...fields });

async function listed(count) {
  const page = open(SIGN_INS);
  await shown(page, () => items(page).length === count);
  passDoubleTap();
  return page;
}

function items(page) {
  return page.querySelectorAll(".sign-in").map(({ dom }) => dom);
}

function requests(method) {
  return phone.calls("request").filter((asked) => asked.method === method);
}

describe("list", () => {
  test("a sign-in has its app, browser, address and time", async () => {
    await signIn();

    const [item] = items(await listed(1));

    const lines = [...item.children].map(({ textContent }) => textContent);
    expect(lines.slice(0, 3)).toEqual(["Bank", "Chrome 126 on Windows", "127.0.0.1"]);
    expect(lines[3]).toMatch(/^Last used: \d{4}-\d\d-\d\d \d\d:\d\d$/);
  });

  test("offline access is marked", async () => {
    await signIn({ offline: 1 });

    const [item] = items(await listed(1));

    expect(item.textContent).toContain("Offline access");
    expect(item.textContent).not.toContain("Chrome");
  });

  test("only the person's own sign-ins are listed", async () => {
    await signIn();
    become("another-person");

    await shown(open(SIGN_INS), "You are not signed in anywhere");
  });

  test("Chinese WeChat gets Chinese texts", async () => {
    await signIn();
    become(person, { language: "zh_CN" });

    const page = await listed(1);

    for (const text of ["你的登录", "Windows 上的 Chrome 126", "上次使用：", "结束", "全部结束"]) {
      expect(page.dom.textContent).toContain(text);
    }
  });
});

describe("end", () => {
  test("one sign-in ends and the others stay", async () => {
    await signIn();
    await signIn({ offline: 1 });
    const page = await listed(2);

    await tap(page, "end");

    await shown(page, () => items(page).length === 1);
    expect(items(page)[0].textContent).toContain("Offline access");
  });

  test("all sign-ins end", async () => {
    await signIn();
    await signIn({ offline: 1 });
    const page = await listed(2);

    await tap(page, "end-all");

    await shown(page, "You are not signed in anywhere");
  });

  test("the second tap of a double tap ends no other sign-in", async () => {
    await signIn();
    await signIn();
    const page = await listed(2);
    await tap(page, "end");
    await shown(page, () => items(page).length === 1);

    await tap(page, "end");
    await tap(page, "end-all");

    expect(requests("DELETE")).toHaveLength(1);
  });

  test("a sign-in that has ended elsewhere leaves the list", async () => {
    await signIn();
    const pages = [await listed(1), await listed(1)];

    for (const page of pages) {
      await tap(page, "end");
      await shown(page, "You are not signed in anywhere");
    }
  });
});

describe("failures", () => {
  test("the list can be loaded after an offline phase", async () => {
    await signIn();
    phone.isOnline = false;
    const page = open(SIGN_INS);
    await shown(page, "No connection");

    phone.isOnline = true;
    await tap(page, "again");

    await shown(page, () => items(page).length === 1);
  });

  test("an end can be repeated after an offline phase", async () => {
    await signIn();
    const page = await listed(1);
    phone.isOnline = false;
    await tap(page, "end");
    await shown(page, "No connection");

    phone.isOnline = true;
    await tap(page, "again");

    await shown(page, "You are not signed in anywhere");
  });

  test("an end without an answer is repeated", async () => {
    await signIn();
    const page = await listed(1);
    phone.losesNextAnswer = true;

    await tap(page, "end");

    await shown(page, "You are not signed in anywhere");
  });

  test("an expired session is replaced", async () => {
    await signIn();
    const key = `scan-login ${BROKER} default `;
    phone.wx.setStorage({ key, data: { id: "unknown", skey: "unknown" } });

    await listed(1);

    expect(phone.calls("login")).toHaveLength(1);
  });

  test("a session that the broker refuses is reported", async () => {
    config.proof = "not-a-js-code";

    await shown(open(SIGN_INS), "Something went wrong");
  });

  test("a blocked person cannot repeat the request", async () => {
    become("blocked");

    const page = open(SIGN_INS);

    await shown(page, "Your account is blocked");
    expect(page.querySelector("#again")).toBeFalsy();
  });

  test("a retry waits for the broker's retry delay", async () => {
    become("unlucky");
    const page = open(SIGN_INS);
    await shown(page, "Temporarily unavailable");
    await shown(page, "Try again in 0:02");

    await tap(page, "again");
    expect(requests("GET")).toHaveLength(1);

    pass(3); // one more than the delay: the page counts whole seconds
    await shown(page, (text) => !text.includes("Try again in"));
    await tap(page, "again");
    expect(requests("GET")).toHaveLength(2);
  });
});

describe("report", () => {
  test("the sign-in of a reported login ends", async () => {
    const { scene } = await ask("begin");
    const page = await scanned({ scene });
    await tap(page, "confirm");
    await shown(page, "Confirmed");
    expect(await ask("finish", { scene })).toEqual({ status: 303 });
    await listed(1);

    await tap(page, "report");

    await shown(page, "The sign-in to Bank has ended.");
    await shown(open(SIGN_INS), "You are not signed in anywhere");
  });
});
