// The pages in WeChat's simulator, with taps, against a running broker.
"use strict";

const http = require("node:http");
const { Browser } = require("./browser");
const { pass, passDoubleTap, stopClock } = require("./clock");
const { PretendPhone, call } = require("./pretend-phone");
const {
  HOME, LOGIN, REGISTER, closeAll, config, eventually, open, scan, scanned, shown, tap, textOf,
} = require("./simulator");

const { BROKER, BRIEF_BROKER, STRICT_BROKER, INVITATION } = process.env;
const LIFETIME = 120; // seconds, of a code

let phone;

beforeEach(() => {
  stopClock();
  Object.assign(config, { broker: BROKER, app: "default", proof: null, webViewHosts: [] });
  jest.spyOn(console, "warn").mockImplementation(() => {});
  hold(new PretendPhone("alice"));
});

afterEach(closeAll);

function hold(other) {
  phone = other;
  global.wx = phone.wx;
  return phone;
}

function acts(act) {
  return phone.calls("request").filter(({ url }) => url.endsWith(`/phone/${act}`));
}

describe("confirm view", () => {
  test("it shows site, scopes, browser, address and time", async () => {
    const page = await scan((await Browser.at(BROKER)).scene);

    const values = page.querySelectorAll(".value").map((value) => value.dom.textContent);
    const scopes = "your user ID, your name and profile";
    expect(values.slice(0, 4)).toEqual(["小店 & Co", scopes, "Chrome 126 on Windows", "127.0.0.1"]);
    expect(values[4]).toMatch(/^just now · \d\d:\d\d:\d\d$/);
    expect(textOf(page, "left")).toMatch(/The code expires in [12]:\d\d/);
  });

  test("an unknown browser is shown by its User-Agent", async () => {
    const page = await scan((await Browser.at(BROKER, "kiosk")).scene);

    expect(page.dom.textContent).toContain("kiosk");
  });

  test("confirm and deny have the same style", async () => {
    const page = await scan((await Browser.at(BROKER)).scene);

    const [deny, confirm] = ["deny", "confirm"].map((id) => page.querySelector(`#${id}`).dom);
    expect(confirm.className).toBe(deny.className);
  });

  test("the second tap of a double tap has no effect", async () => {
    const browser = await Browser.at(BROKER);
    const page = await scan(browser.scene);

    await tap(page, "confirm");

    expect((await browser.ask()).state).toBe("scanned");
    expect(textOf(page, "title")).toBe("Sign in to 小店 & Co?");
  });
});

describe("launch scene of a scan", () => {
  // Scan with the camera on the start page, and return the query of the page that it opens.
  const seen = async (scene) => {
    phone.scanned = { result: `http://127.0.0.1:8090/?scene=${scene}` };
    await tap(open(HOME), "scan");
    const [{ url }] = phone.calls("navigateTo");
    return Object.fromEntries(new URL(url, "http://page").searchParams);
  };
  const sent = async (query) => {
    const page = open(LOGIN, query);
    await shown(page, "Sign in to 小店 & Co?");
    return acts("scan").pop().data.how;
  };

  test("a code that WeChat opened has its launch scene", async () => {
    phone.launchScene = 1049;

    expect(await sent({ scene: (await Browser.at(BROKER)).scene })).toBe(1049);
  });

  test("a code of the start page was scanned by the camera", async () => {
    expect(await sent(await seen((await Browser.at(BROKER)).scene))).toBe(1047);
    expect(phone.calls("scanCode")).toMatchObject([{ onlyFromCamera: true }]);
  });

  test("the query of a link has no influence", async () => {
    phone.launchScene = 1007;
    const { scene } = await Browser.at(BROKER);

    expect(await sent({ scene, how: "1047" })).toBe(1007);
  });

  test("a scan by the camera counts once", async () => {
    phone.launchScene = 1048;
    const query = await seen((await Browser.at(BROKER)).scene);
    await sent(query);

    expect(await sent(query)).toBe(1048);
  });

  test("a scan by the camera counts for its own code", async () => {
    phone.launchScene = 1048;
    await seen("another-code");

    expect(await sent({ scene: (await Browser.at(BROKER)).scene })).toBe(1048);
  });

  test("a repeated scan has the same launch scene", async () => {
    const query = await seen((await Browser.at(BROKER)).scene);
    phone.isOnline = false;
    const page = open(LOGIN, query);
    await shown(page, "No connection");

    phone.isOnline = true;
    await tap(page, "again");

    await shown(page, "Sign in to 小店 & Co?");
    expect(acts("scan").pop().data.how).toBe(1047);
  });
});

describe("outcome", () => {
  test("confirm gives the browser its token", async () => {
    const browser = await Browser.at(BROKER);
    const page = await scanned(browser);

    await tap(page, "confirm");

    await shown(page, "Confirmed");
    expect((await browser.ask()).subject).toBe("user-alice");
    await tap(page, "done");
    expect(phone.calls("exitMiniProgram")).toHaveLength(1);
  });

  test("a report ends the login", async () => {
    const browser = await Browser.at(BROKER);
    const page = await scanned(browser);
    await tap(page, "confirm");
    await shown(page, "Confirmed");
    passDoubleTap();

    await tap(page, "report");

    await shown(page, "The report is recorded");
    expect(page.querySelector("#report")).toBeFalsy();
    expect((await browser.ask()).error).toBe("invalid_grant");
  });

  test("the second tap of a double tap does not report", async () => {
    const page = await scanned(await Browser.at(BROKER));
    await tap(page, "confirm");
    await shown(page, "Confirmed");

    await tap(page, "report");

    expect(acts("report")).toEqual([]);
  });

  test("a report can be repeated after an offline phase", async () => {
    const page = await scanned(await Browser.at(BROKER));
    await tap(page, "confirm");
    await shown(page, "Confirmed");
    passDoubleTap();
    phone.isOnline = false;
    await tap(page, "report");
    await shown(page, "No connection");

    phone.isOnline = true;
    await tap(page, "again");

    await shown(page, "The report is recorded");
  });

  test("deny gives the browser no token", async () => {
    const browser = await Browser.at(BROKER);
    const page = await scanned(browser);

    await tap(page, "deny");

    await shown(page, "Denied");
    expect((await browser.ask()).error).toBe("access_denied");
  });

  test("a double tap confirms once", async () => {
    const page = await scanned(await Browser.at(BROKER));

    await Promise.all([tap(page, "confirm"), tap(page, "confirm")]);

    await shown(page, "Confirmed");
    expect(acts("confirm")).toHaveLength(1);
  });

  test("a repeated confirm of the same phone succeeds", async () => {
    const browser = await Browser.at(BROKER);
    const pages = [await scanned(browser), await scanned(browser)];

    for (const page of pages) {
      await tap(page, "confirm");
      await shown(page, "Confirmed");
    }
  });

  test("a second phone cannot scan the code", async () => {
    const browser = await Browser.at(BROKER);
    await scan(browser.scene);
    hold(new PretendPhone("bob"));

    const page = await scan(browser.scene);

    expect(textOf(page, "title")).toBe("Scanned by another phone");
  });

  test("another code is scanned in place", async () => {
    const page = await scan("unknown-scene");
    phone.scanned = { result: `http://127.0.0.1:8090/?scene=${(await Browser.at(BROKER)).scene}` };

    await tap(page, "another");

    await shown(page, "Sign in to 小店 & Co?");
    expect(acts("scan").pop().data.how).toBe(1047);
  });

  test("a page whose code expires shows it", async () => {
    const page = await scan((await Browser.at(BROKER)).scene);
    expect(textOf(page, "title")).toContain("Sign in to");

    pass(LIFETIME);

    await shown(page, "The code has expired");
  });

  test("an expired code cannot be scanned", async () => {
    config.broker = BRIEF_BROKER;
    const { scene } = await Browser.at(BRIEF_BROKER);

    await eventually(async () => textOf(await scan(scene), "title") === "The code has expired");
  });

  test("a confirmed login cannot be scanned", async () => {
    const browser = await Browser.at(BROKER);
    const page = await scanned(browser);
    await tap(page, "confirm");
    await shown(page, "Confirmed");

    const again = await scan(browser.scene);

    expect(textOf(again, "title")).toBe("This sign-in has ended");
  });

  test.each(["scene-without-a-browser", "not a scene!", "%E0%A4%A", ""])(
    "an unknown scene %j is reported", async (scene) => {
      const page = open(LOGIN, { scene });

      await shown(page, "Unknown code");
    },
  );
});

describe("invitations", () => {
  test("the code of an invitation registers the phone", async () => {
    hold(new PretendPhone("guest"));

    const page = open(LOGIN, { scene: `i.${INVITATION}` });

    await shown(page, "Registered");
    expect(acts("scan")).toHaveLength(0);
  });

  test("an unknown invitation is reported", async () => {
    const page = open(LOGIN, { scene: `i.${"x".repeat(30)}` });

    await shown(page, "The invitation has ended");
  });
});

describe("users", () => {
  test("an unregistered user registers and confirms the same login", async () => {
    hold(new PretendPhone("stranger"));
    const browser = await Browser.at(BROKER);
    const page = await scanned(browser);
    await tap(page, "confirm");
    await shown(page, "Not registered yet");
    expect((await browser.ask()).state).toBe("unregistered");

    await tap(page, "register");
    const [{ url }] = phone.calls("navigateTo");
    const register = open(REGISTER, { url: url.split("?url=")[1] });
    await tap(register, "copy");
    const [{ data: link }] = phone.calls("setClipboardData");
    await call({ url: `${link}?name=stranger`, method: "POST" });
    await tap(page, "again");

    await shown(page, "Confirmed");
  });

  test("an app without a register page shows no link", async () => {
    hold(new PretendPhone("unregistered"));
    config.broker = STRICT_BROKER;
    const page = await scanned(await Browser.at(STRICT_BROKER));

    await tap(page, "confirm");

    await shown(page, "Not registered yet");
    expect(page.querySelector("#register")).toBeFalsy();
  });

  test("a blocked user is refused", async () => {
    hold(new PretendPhone("blocked"));
    const page = await scanned(await Browser.at(BROKER));

    await tap(page, "confirm");

    await shown(page, "Not allowed");
    expect(page.querySelector("#again")).toBeFalsy();
  });
});

describe("failures", () => {
  test("an act can be repeated after an offline phase", async () => {
    const browser = await Browser.at(BROKER);
    phone.isOnline = false;
    const page = await scan(browser.scene);
    expect(textOf(page, "title")).toBe("No connection");

    phone.isOnline = true;
    await tap(page, "again");

    await shown(page, "Sign in to 小店 & Co?");
  });

  test("a missing broker is reported as no connection", async () => {
    config.broker = "http://127.0.0.1:9";

    const page = await scan("any");

    expect(textOf(page, "title")).toBe("No connection");
  });

  test("an answer of another server is reported as no connection", async () => {
    const network = http.createServer((_, answer) => answer.end("<h1>Welcome to the train</h1>"));
    await new Promise((ready) => { network.listen(0, "127.0.0.1", ready); });
    config.broker = `http://127.0.0.1:${network.address().port}`;

    const page = await scan("any");

    expect(textOf(page, "title")).toBe("No connection");
    network.close();
  });

  test("a confirm without an answer is repeated", async () => {
    const browser = await Browser.at(BROKER);
    const page = await scanned(browser);
    phone.losesNextAnswer = true;

    await tap(page, "confirm");

    await shown(page, "Confirmed");
    expect((await browser.ask()).subject).toBe("user-alice");
  });

  test("a retry waits for the broker's retry delay", async () => {
    hold(new PretendPhone("unlucky"));
    const page = await scanned(await Browser.at(BROKER));
    await tap(page, "confirm");
    await shown(page, "Temporarily unavailable");
    expect(textOf(page, "again")).toBe("Try again in 0:02");

    await tap(page, "again");
    expect(acts("confirm")).toHaveLength(1);

    pass(3); // one more than the delay: the page counts whole seconds
    await shown(page, (text) => !text.includes("Try again in"));
    await tap(page, "again");
    expect(acts("confirm")).toHaveLength(2);
  });

  test("too many wrong codes are rate limited", async () => {
    config.broker = STRICT_BROKER;
    await scan("wrong-1");
    await scan("wrong-2");

    const page = await scan("wrong-3");

    expect(textOf(page, "title")).toBe("Too many attempts");
    expect(textOf(page, "again")).toMatch(/Try again in \d:\d\d/);
  });
});

describe("sessions", () => {
  test("one session serves several codes", async () => {
    await scan((await Browser.at(BROKER)).scene);
    await scan((await Browser.at(BROKER)).scene);

    expect(phone.calls("login")).toHaveLength(1);
  });

  test("an unknown session is replaced", async () => {
    const key = `scan-login ${BROKER} default `;
    phone.wx.setStorage({ key, data: { id: "unknown", skey: "unknown" } });

    const page = await scan((await Browser.at(BROKER)).scene);

    expect(textOf(page, "title")).toBe("Sign in to 小店 & Co?");
    expect(phone.wx.getStorageSync(key).id).not.toBe("unknown");
  });
});

describe("languages", () => {
  test("Chinese WeChat gets Chinese texts", async () => {
    hold(new PretendPhone("alice", { language: "zh_CN" }));
    const page = await scanned(await Browser.at(BROKER));
    expect(textOf(page, "title")).toBe("登录 小店 & Co？");
    expect(page.dom.textContent).toContain("Windows 上的 Chrome 126");
    expect(phone.calls("setNavigationBarTitle")).toEqual([{ title: "扫码登录" }]);

    await tap(page, "confirm");

    await shown(page, "浏览器已登录 小店 & Co。");
  });

  test("an older WeChat without getAppBaseInfo is supported", async () => {
    delete phone.wx.getAppBaseInfo;
    phone.wx.getSystemInfoSync = () => ({ language: "zh_TW" });

    const page = open(HOME);

    expect(page.dom.textContent).toContain("在电脑上登录");
  });
});

describe("start page", () => {
  test.each([
    ["a mini program code", { path: "pages/index/wsLogin?scene=abc-1" }],
    ["a QR code", { result: "http://127.0.0.1:8090/?scene=abc-1" }],
  ])("scans %s", async (_, seen) => {
    phone.scanned = seen;
    const page = open(HOME);

    await tap(page, "scan");

    expect(phone.calls("navigateTo")).toEqual([{ url: "/pages/index/wsLogin?scene=abc-1" }]);
  });

  test("the sign-ins have a button", async () => {
    await tap(open(HOME), "sign-ins");

    expect(phone.calls("navigateTo")).toEqual([{ url: "/pages/signins/signins" }]);
  });

  test("another kind of code is refused", async () => {
    phone.scanned = { result: "4006381333931" };
    const page = open(HOME);

    await tap(page, "scan");

    const [{ title }] = phone.calls("showToast");
    expect(title).toBe("This is not a sign-in code");
  });
});

describe("register page", () => {
  const url = "https://shop.example/register";

  test("a business domain opens in a web-view", () => {
    config.webViewHosts = ["shop.example"];

    const page = open(REGISTER, { url: encodeURIComponent(url) });

    expect(page.dom.querySelector("wx-web-view")).toBeTruthy();
  });

  test.each(["https://shop.example.evil.example/", "http://shop.example/"])(
    "another URL is a link to copy: %s", (other) => {
      config.webViewHosts = ["shop.example"];

      const page = open(REGISTER, { url: encodeURIComponent(other) });

      expect(textOf(page, "link")).toBe(other);
      expect(page.dom.querySelector("wx-web-view")).toBeNull();
    },
  );
});
