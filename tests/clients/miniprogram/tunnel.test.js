/**
 * The client of a tunnel, with sockets and a clock that the test controls.
 *
 * @jest-environment node
 */
"use strict";

const { Game } = require("../../../mp_stub/miniprogram/pages/game/client");
const { Tunnel } = require("../../../mp_stub/miniprogram/scan-login/tunnel");

const OPEN = { type: "open", tunnel_id: "t1", resume: "secret", epoch: "e1", offset: 0, recovered: true, ping_every: 25 };

let sockets;
let seen; // calls of the page's functions
let saved;

class FakeSocket {
  constructor(url) {
    Object.assign(this, { url, sent: [], isClosed: false });
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }

  receive(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }

  of(type) {
    return this.sent.filter((frame) => frame.type === type);
  }
}

beforeEach(() => {
  jest.useFakeTimers();
  [sockets, seen, saved] = [[], [], []];
});

afterEach(() => jest.useRealTimers());

const last = () => sockets[sockets.length - 1];

async function settle(milliseconds = 0) {
  await jest.advanceTimersByTimeAsync(milliseconds);
}

function start(options = {}) {
  return new Tunnel({
    connect: (url) => {
      sockets.push(new FakeSocket(url));
      return last();
    },
    create: async () => ({ url: `wss://login.example/tunnel/ticket-${sockets.length}` }),
    onsave: (state) => saved.push(state),
    onopen: ({ recovered }) => seen.push(["open", recovered]),
    onmessage: (data) => seen.push(["message", data]),
    onstatus: (status, problem) => seen.push([status, problem && problem.code]),
    ...options,
  });
}

async function opened(options) {
  const tunnel = start(options);
  await settle();
  last().onopen();
  last().receive(OPEN);
  return tunnel;
}

// Lose the socket, and open the next one.
async function resumed(code = 1006, frame = OPEN) {
  last().onclose({ code });
  await settle(1000);
  last().onopen();
  last().receive(frame);
}

test("a socket that is lost is resumed from the last offset", async () => {
  await opened();
  last().receive({ type: "message", offset: 1, data: "one" });

  await resumed();

  expect(last().url).toBe("wss://login.example/tunnel");
  expect(last().sent[0]).toEqual({ type: "resume", tunnel_id: "t1", resume: "secret", epoch: "e1", offset: 1 });
  expect(seen).toEqual([
    ["open", null], ["open", false], ["message", "one"], ["away", null], ["open", null], ["open", true],
  ]);
});

test("a message that arrives twice is given once, and acknowledged", async () => {
  await opened();

  for (const offset of [1, 2, 2, 1]) last().receive({ type: "message", offset, data: offset });

  expect(seen.filter(([what]) => what === "message")).toEqual([["message", 1], ["message", 2]]);
  expect(last().of("ack").map(({ offset }) => offset)).toEqual([1, 2]);
});

test("a message without reply is sent again with its id", async () => {
  const tunnel = await opened();
  const reply = tunnel.send("hello");
  const [{ id }] = last().of("message");

  await resumed();

  expect(last().of("message")).toEqual([{ type: "message", id, data: "hello" }]);
  last().receive({ type: "reply", id, data: "hi" });
  await expect(reply).resolves.toBe("hi");
});

test("a message before the connection is sent once it is open", async () => {
  const tunnel = start();
  tunnel.send("early");
  await settle();
  last().onopen();
  expect(last().sent).toEqual([]);

  last().receive(OPEN);

  expect(last().of("message").map(({ data }) => data)).toEqual(["early"]);
});

test("an ended tunnel is replaced by a new one", async () => {
  const tunnel = await opened();
  const refused = expect(tunnel.send("hello")).rejects.toMatchObject({ error: "unreachable" });
  last().onclose({ code: 1006 });
  await settle(1000);
  last().onclose({ code: 4001 });

  await refused;
  await settle(2000);
  expect(last().url).toMatch(/ticket/);
  last().onopen();
  last().receive({ ...OPEN, tunnel_id: "t2" });
  expect(saved[saved.length - 1].tunnel_id).toBe("t2");
});

test.each([4003, 4004, 4010, 4011, 4100])("the code %i ends the tunnel", async (code) => {
  const tunnel = await opened();
  const refused = expect(tunnel.send("hello")).rejects.toMatchObject({ error: "ended" });

  last().onclose({ code, reason: "over" });
  await settle(60_000);

  await refused;
  expect(seen[seen.length - 1]).toEqual(["ended", code]);
  expect([sockets.length, saved[saved.length - 1]]).toEqual([1, null]);
  await expect(tunnel.send("late")).rejects.toMatchObject({ error: "ended" });
});

test("a connection without an answer to a ping is replaced", async () => {
  await opened();
  const [first] = sockets;

  await settle(25_000);
  expect(first.of("ping").length).toBe(1);
  await settle(11_000);

  expect(first.isClosed).toBe(true);
  expect(sockets.length).toBe(2);
});

test("a pong keeps the connection", async () => {
  await opened();

  for (let count = 0; count < 5; count += 1) {
    await settle(25_000);
    last().receive({ type: "pong" });
  }

  expect(last().of("ping").length).toBe(5);
  expect(sockets.length).toBe(1);
});

test("attempts are delayed by up to 30 seconds", async () => {
  await opened();
  jest.spyOn(Math, "random").mockReturnValue(1);

  for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
    last().onclose({ code: 1006 });
    const count = sockets.length;
    await settle(seconds * 1000 - 10);
    expect(sockets.length).toBe(count);
    await settle(20);
    expect(sockets.length).toBe(count + 1);
  }
});

test("waking connects at once", async () => {
  const tunnel = await opened();
  last().onclose({ code: 1006 });

  tunnel.wake();

  expect(sockets.length).toBe(2);
});

test("an event of an old socket is ignored", async () => {
  await opened();
  const [first] = sockets;
  await resumed();

  first.onclose({ code: 4004 });
  first.receive({ type: "message", offset: 9, data: "old" });

  expect(seen).not.toContainEqual(["message", "old"]);
  expect(seen[seen.length - 1]).toEqual(["open", true]);
});

test("a final refusal of the backend ends the tunnel", async () => {
  start({ create: async () => { throw Object.assign(new Error("sign in"), { isFinal: true }); } });
  await settle(60_000);

  expect(seen).toEqual([["ended", 0]]);
  expect(sockets).toEqual([]);
});

test("an older view of the game is ignored", async () => {
  const handlers = {};
  const game = new Game({
    openTunnel: (given) => Object.assign(handlers, given) && { status: "open" },
    onchange: () => {},
  });

  handlers.onmessage({ version: 3, phase: "waiting" });
  handlers.onmessage({ version: 2, phase: "idle" });

  expect(game.view.phase).toBe("waiting");
});
