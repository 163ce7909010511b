/**
 * The client library over HTTP.
 *
 * @jest-environment node
 */
"use strict";

const path = require("node:path");
const { Browser } = require("./browser");
const { PretendPhone, call } = require("./pretend-phone");

const { BROKER, STRICT_BROKER } = process.env;
const ROOT = path.resolve(__dirname, "../../../mp_stub/miniprogram");
const { ScanLogin, ScanLoginError } = require(`${ROOT}/scan-login/index`);
const { readBrowser } = require(`${ROOT}/scan-login/browsers`);
const { WORDS } = require(`${ROOT}/words`);

let phone;

beforeEach(() => hold(new PretendPhone("alice")));

function hold(other) {
  phone = other;
  global.wx = phone.wx;
}

describe("failures", () => {
  test("an error has the broker's words and is not retried", async () => {
    const refused = new ScanLogin({ broker: BROKER }).scan("unknown-scene");

    await expect(refused).rejects.toBeInstanceOf(ScanLoginError);
    await expect(refused).rejects.toMatchObject({
      error: "unknown_scene",
      message: "no active login for this code",
    });
    const paths = phone.calls("request").map(({ url }) => url.split("/").pop());
    expect(paths).toEqual(["session", "scan"]);
  });

  test("an unregistered user gets the register URL", async () => {
    hold(new PretendPhone("passer-by"));
    const link = new ScanLogin({ broker: BROKER });
    const { login_id } = await link.scan((await Browser.at(BROKER)).scene);

    await expect(link.confirm(login_id)).rejects.toMatchObject({
      error: "unregistered_user",
      register_url: expect.stringMatching(/\/register$/),
    });
  });

  test("a rate limit has a retry delay", async () => {
    const link = new ScanLogin({ broker: STRICT_BROKER });
    const guess = () => link.scan("wrong").catch(({ error, retry_after }) => [error, retry_after]);

    await guess();
    await guess();

    expect(await guess()).toEqual(["rate_limited", expect.any(Number)]);
  });

  test("a request without an answer is sent three times", async () => {
    phone.isOnline = false;
    const link = new ScanLogin({ broker: BROKER, proof: "pretend:alice" });

    await expect(link.scan("any")).rejects.toMatchObject({ error: "unreachable" });

    expect(phone.calls("request")).toHaveLength(3);
    expect(phone.calls("request").every(({ timeout }) => timeout === 6000)).toBe(true);
  });

  test("a refused proof is named in the error", async () => {
    const link = new ScanLogin({ broker: BROKER, proof: "alice" });

    await expect(link.session()).rejects.toMatchObject({
      error: "invalid_session",
      message: expect.stringMatching(/proof must be null/),
    });
  });

  test("a slash at the end of the broker's URL is removed", async () => {
    const link = new ScanLogin({ broker: `${BROKER}/` });

    await link.scan((await Browser.at(BROKER)).scene);

    expect(link.broker).toBe(BROKER);
    const urls = phone.calls("request").map(({ url }) => url);
    expect(urls).toEqual([`${BROKER}/phone/session`, `${BROKER}/phone/scan`]);
  });

  test("an unknown app is refused", async () => {
    const link = new ScanLogin({ broker: BROKER, app: "elsewhere" });

    await expect(link.scan("any")).rejects.toMatchObject({ error: "invalid_client" });
  });
});

describe("sessions", () => {
  test("concurrent acts share one new session", async () => {
    const link = new ScanLogin({ broker: BROKER });
    const browsers = await Promise.all([Browser.at(BROKER), Browser.at(BROKER)]);

    await Promise.all(browsers.map(({ scene }) => link.scan(scene)));

    expect(phone.calls("login")).toHaveLength(1);
  });

  test("a configured proof replaces the js_code", async () => {
    const browser = await Browser.at(BROKER);
    const link = new ScanLogin({ broker: BROKER, proof: "pretend:bob" });

    await link.confirm((await link.scan(browser.scene)).login_id);

    expect((await browser.ask()).subject).toBe("user-bob");
    expect(phone.calls("login")).toEqual([]);
  });

  test("a full storage keeps the session in memory", async () => {
    phone.wx.setStorage = ({ fail }) => fail({ errMsg: "setStorage:fail exceed" });
    const link = new ScanLogin({ broker: BROKER });
    const { login_id } = await link.scan((await Browser.at(BROKER)).scene);

    expect((await link.deny(login_id)).state).toBe("denied");
    expect(phone.calls("login")).toHaveLength(1);
  });
});

describe("signing out", () => {
  test("the session ends at the broker and on the phone", async () => {
    const link = new ScanLogin({ broker: BROKER });
    const session = await link.session();

    await link.signOut();

    const next = await new ScanLogin({ broker: BROKER }).session();
    expect(next.id).not.toBe(session.id);
    const header = { Authorization: `Bearer ${session.id}.${session.skey}` };
    const url = `${BROKER}/phone/signins`;
    expect((await call({ url, header })).data.error).toBe("invalid_session");
  });

  test("a session that has ended elsewhere is removed", async () => {
    const links = [new ScanLogin({ broker: BROKER }), new ScanLogin({ broker: BROKER })];
    const [{ id }] = [await links[0].session(), await links[1].session()];
    await links[0].signOut();

    await links[1].signOut();

    expect((await links[1].session()).id).not.toBe(id);
  });

  test("a phone without a session sends no request", async () => {
    await new ScanLogin({ broker: BROKER }).signOut();

    expect(phone.happened).toEqual([]);
  });

  test("a sign-out without a connection keeps the session", async () => {
    const link = new ScanLogin({ broker: BROKER });
    const session = await link.session();
    phone.isOnline = false;

    await expect(link.signOut()).rejects.toMatchObject({ error: "unreachable" });

    expect(await link.session()).toBe(session);
  });
});

test("an invitation that the broker does not know is refused", async () => {
  const registered = new ScanLogin({ broker: BROKER }).register("unknown");

  await expect(registered).rejects.toMatchObject({ error: "invalid_grant" });
});

test.each([
  ["Chrome 126", "Windows", "Mozilla/5.0 (Windows NT 10.0) Chrome/126.0.0.0 Safari/537.36"],
  ["Edge 125", "macOS", "Mozilla/5.0 (Macintosh) Chrome/125.0.0.0 Safari/537.36 Edg/125.0"],
  ["Safari 17", "iPhone", "Mozilla/5.0 (iPhone) Version/17.4 Mobile/15E148 Safari/604.1"],
  ["Firefox 128", "Linux", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Firefox/128.0"],
  [null, null, "kiosk"],
])("a User-Agent is parsed to %s, %s", (program, system, userAgent) => {
  expect(readBrowser(userAgent)).toEqual({ program, system });
});

test("both languages have the same texts with the same placeholders", () => {
  const gaps = (words) =>
    Object.entries(words).map(([key, text]) => [key, (text.match(/\{\w+\}/g) || []).sort()]);

  expect(gaps(WORDS.zh)).toEqual(gaps(WORDS.en));
});
