/**
 * The chat page in WeChat's simulator. The test in Python has a web page in the room `lobby`.
 *
 * @jest-environment-options {"customExportConditions": ["node", "node-addons"]}
 */
"use strict";

const { PretendPhone, call } = require("./pretend-phone");
const { closeAll, config, eventually, load, open, shown, tap } = require("./simulator");

const ROOT = "../../../mp_stub/miniprogram/scan-login";
const { Chat } = require(`${ROOT}/chat`);
const { Room } = require(`${ROOT}/chat_room`);
const { openSocket } = require(`${ROOT}/socket`);
const { BROKER, CLOSED_BROKER } = process.env;
const CHAT = load("chat/chat");

let phone;
let peers = [];
let rooms = 0;

beforeEach(() => {
  Object.assign(config, { broker: BROKER, app: "default", proof: null, chatRoom: `room-${rooms += 1}` });
  jest.spyOn(console, "warn").mockImplementation(() => {});
  phone = new PretendPhone("phone");
  global.wx = phone.wx;
});

afterEach(() => {
  closeAll();
  jest.restoreAllMocks();
  for (const peer of peers) peer.close();
  peers = [];
});

// A member of the room, through the client module.
async function peer(name) {
  const data = { app: "default", js_code: `pretend:${name}` };
  const header = { "Content-Type": "application/json" };
  const opened = await call({ url: `${BROKER}/phone/session`, method: "POST", data, header });
  const { id, skey } = opened.data;
  const chat = new Chat({
    open: (auth) => openSocket(BROKER, "/chat", { auth }),
    credentials: async () => ({ id, skey }),
  });
  peers.push(chat);
  const room = chat.room(config.chatRoom);
  chat.join(room);
  await eventually(() => room.isJoined);
  return { chat, room };
}

async function joined() {
  const page = open(CHAT);
  await shown(page, "online");
  return page;
}

async function say(page, text) {
  page.instance.input({ detail: { value: text } });
  await tap(page, "send");
}

const texts = (page) => page.querySelectorAll(".bubble").map(({ dom }) => dom.textContent);

test("the page and a web page are in one room", async () => {
  config.chatRoom = "lobby";
  const page = await joined();

  await say(page, "hello from the phone");

  await shown(page, "hello from the web");
  expect(texts(page)).toEqual(["hello from the phone", "hello from the web"]);
});

test("members and typing are shown", async () => {
  const page = await joined();
  const { chat, room } = await peer("bob");
  await shown(page, "2 online");

  chat.typing(room, true);
  await shown(page, "bob is typing…");
  chat.send(room, { text: "<b>hello</b>" });

  await shown(page, (text) => text.includes("<b>hello</b>") && !text.includes("typing"));
  await tap(page, "side");
  await shown(page, "pretend:bob");
});

test("a list without an epoch is replaced", () => {
  const entry = (offset, text) => ({ offset, id: text, from: { subject: "bob" }, text });
  const answer = { room: "lobby", epoch: "", offset: 0, recovered: false, messages: [] };
  Object.assign(answer, { members: [], online: 1, may: [] });
  const room = new Room("lobby");
  room.enter(answer, "me");
  for (const [offset, text] of [[1, "lost"], [2, "lost too"]]) room.add(entry(offset, text));

  room.enter({ ...answer, epoch: "later", offset: 1, recovered: true, messages: [entry(1, "new")] }, "me");

  expect(room.messages.map(({ text }) => text)).toEqual(["new"]);
});

test("missed messages are read after a lost connection", async () => {
  const page = await joined();
  const { chat, room } = await peer("bob");
  await say(page, "before");
  await eventually(() => room.messages.length === 1);

  phone.sockets[0].terminate();
  await shown(page, "Connection lost");
  chat.send(room, { text: "missed" });
  await say(page, "written offline");

  await shown(page, () => texts(page).length === 3 && !page.dom.textContent.includes("Sending"));
  expect(texts(page)).toEqual(["before", "missed", "written offline"]);
});

test("an own message can be deleted", async () => {
  const page = await joined();
  const { room } = await peer("bob");
  await say(page, "a slip");
  await eventually(() => room.messages.length === 1 && room.epoch); // a list that begins later omits it
  await shown(page, "Delete");

  await tap(page, "delete");

  await shown(page, "Message deleted");
  await eventually(() => room.messages[0]?.isDeleted);
});

test.each([
  ["en", "The chat is not available."],
  ["zh_CN", "聊天室不可用。"],
])("a refused room is reported in %s, and its error in the console", async (language, sentence) => {
  phone = new PretendPhone("phone", { language });
  global.wx = phone.wx;
  config.chatRoom = "not a room!";

  const page = open(CHAT);
  await shown(page, sentence);

  expect(page.querySelector(".banner").dom.textContent).toBe(sentence);
  expect(console.warn.mock.calls).toEqual([[expect.stringMatching(/^chat: invalid_request: ./)]]);
});

test("an unavailable admission is not shown as a removal", async () => {
  config.broker = CLOSED_BROKER;

  const page = open(CHAT);

  await shown(page, "The chat is not available.");
});

test("a conversation has an unread count", async () => {
  const page = await joined();
  const { chat } = await peer("bob");
  const conversation = chat.conversation("pretend:phone");
  chat.join(conversation);
  await eventually(() => conversation.isJoined);
  chat.send(conversation, { text: "between us" });

  await shown(page, () => Boolean(page.querySelector(".count")));
  expect(texts(page)).toEqual([]);
  await tap(page, "side");
  await shown(page, "bob");
  page.instance.show({ currentTarget: { dataset: { to: "pretend:bob" } } });
  await shown(page, "between us");
  await say(page, "yes");

  await eventually(() => conversation.messages.length === 2);
});
