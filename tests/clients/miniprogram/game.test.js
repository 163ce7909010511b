/**
 * The game page in WeChat's simulator, with the game of the example site.
 *
 * @jest-environment-options {"customExportConditions": ["node", "node-addons"]}
 */
"use strict";

const { PretendPhone } = require("./pretend-phone");
const { closeAll, config, load, open, shown, tap, textOf } = require("./simulator");

const GAME = load("game/game");
const { BROKER, SITE } = process.env;

let phones = {};

beforeEach(() => {
  Object.assign(config, { broker: BROKER, site: SITE, app: "default", gameApp: "game", proof: null });
  phones = {};
});

afterEach(closeAll);

// Open the page on the phone of a person.
async function enter(name, options) {
  const phone = phones[name] || new PretendPhone(name, options);
  phones[name] = phone;
  global.wx = phone.wx;
  const page = open(GAME);
  await shown(page, () => page.querySelector("#play") || page.querySelector("#own-hand"));
  return page;
}

async function tapped(page, id, name) {
  await shown(page, () => page.querySelector(`#${id}`));
  global.wx = phones[name].wx;
  await tap(page, id);
}

// Each choice waits until the round is open.
async function choose(page, hand, name) {
  await shown(page, () => page.instance.game.canChoose);
  await tapped(page, hand, name);
}

async function begin() {
  const alice = await enter("alice");
  const bob = await enter("bob");
  await tapped(alice, "play", "alice");
  await tapped(bob, "play", "bob");
  return { alice, bob };
}

const points = (page, side) => page.querySelectorAll(`#${side}-points .won`).length;

test("a phone plays with a web page", async () => {
  const page = await enter("phone");
  await tapped(page, "play", "phone");

  await choose(page, "rock", "phone");

  await shown(page, "You win the round!");
  expect(textOf(page, "other-name")).toBe("web");
  expect(textOf(page, "other-hand")).toBe("✌️");
  expect(points(page, "own")).toBe(1);
  await tapped(page, "leave", "phone");
});

test("two phones play to the end", async () => {
  const { alice, bob } = await begin();

  for (let count = 1; count <= 3; count += 1) {
    await choose(alice, "paper", "alice");
    await shown(bob, () => textOf(bob, "other-hand") === "✓");
    await choose(bob, "rock", "bob");
    await shown(alice, () => points(alice, "own") === count);
  }

  await shown(alice, "You win!");
  await shown(bob, "alice wins.");
  await tapped(alice, "again", "alice");
  await shown(bob, "alice would like to play again.");
  await tapped(bob, "again", "bob");
  await shown(alice, "Round 1");
});

test("a lost connection is resumed in the round", async () => {
  const { alice, bob } = await begin();
  await choose(alice, "paper", "alice");
  await shown(alice, "Waiting for bob");

  phones.alice.sockets[0].terminate();
  await shown(alice, "reconnecting");
  await choose(bob, "rock", "bob");

  await shown(alice, () => points(alice, "own") === 1);
  expect(phones.alice.calls("request").filter(({ url }) => url.endsWith("/game/tunnel")).length).toBe(1);
});

test("a page that is closed ends the match", async () => {
  const { alice, bob } = await begin();
  await choose(bob, "rock", "bob");

  alice.instance.onUnload();

  await shown(bob, "You win!");
  await shown(bob, "alice has left.");
});

test("the second phone of a person takes the seat", async () => {
  const first = await enter("alice");
  const second = await enter("alice");

  await shown(first, "You are playing in another window.");
  await tapped(first, "here", "alice");

  await shown(first, "Ready?");
  await shown(second, "You are playing in another window.");
});

test("an ended session is replaced", async () => {
  const page = await enter("alice");
  page.instance.onUnload();
  const stored = page.instance.session;
  const { id, skey } = await stored.current();
  stored._stored = { id, skey: skey.replace(/./g, "A") };

  global.wx = phones.alice.wx;
  const { url } = await page.instance.create();

  expect(url).toContain("/tunnel/");
});

test("the page is in Chinese if WeChat is", async () => {
  const page = await enter("zoe", { language: "zh_CN" });

  await shown(page, "准备好了吗？");
  expect(textOf(page, "play")).toBe("开始游戏");
});
