// Socket.IO features that applications use, with the official client, in Node and in a browser.
"use strict";

const BYTES = Uint8Array.from({ length: 256 }, (_, at) => at);
const LONG = "é".repeat(30_000);

// Resolves to the result of each feature. Rejects if a feature fails or times out.
async function features(io, url, options) {
  const managers = [];
  const connect = (names) => {
    const manager = new io.Manager(url, { reconnectionDelay: 50, ...options });
    managers.push(manager);
    return Promise.all(names.map((name) => joined(manager.socket(name))));
  };
  try {
    const [main, custom] = await connect(["/", "/custom"]);
    const [neighbour] = await connect(["/"]);
    const [stranger] = await connect(["/"]);
    return {
      namespaces: [main.nsp, custom.nsp, main.io === custom.io, main.id !== custom.id],
      upgraded: await transport(main),
      plain: await echo(main, 1, "two", { three: [null, true, "三"] }),
      binary: (await echo(main, BYTES, { deep: [BYTES] })).map(plain),
      long: (await echo(main, LONG))[0] === LONG,
      ack: await main.timeout(30000).emitWithAck("message-with-ack", 1),
      binaryAck: plain(await main.timeout(30000).emitWithAck("message-with-ack", BYTES)),
      asked: await asked(main),
      room: await heardInRoom(main, neighbour, stranger),
      left: await left(custom, main),
      reconnected: await reconnected(main),
    };
  } finally {
    for (const manager of managers) {
      manager.reconnection(false);
      manager.engine.close();
    }
  }
}

function joined(socket) {
  socket.connect();
  return new Promise((resolve, reject) => {
    socket.once("connect", () => resolve(socket));
    socket.once("connect_error", reject);
  });
}

function heard(socket, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event}`)), 30000);
    socket.once(event, (...values) => {
      clearTimeout(timer);
      resolve(values);
    });
  });
}

async function transport(socket) {
  const { engine } = socket.io;
  if (engine.upgrading) await new Promise((resolve) => engine.once("upgrade", resolve));
  return engine.transport.name;
}

async function echo(socket, ...values) {
  const back = heard(socket, "message-back");
  socket.emit("message", ...values);
  return back;
}

// The server sends an event with an ack, and then sends the ack's value.
async function asked(socket) {
  socket.once("question", (number, answer) => answer(number + 1));
  const told = heard(socket, "answered");
  socket.emit("ask", 41);
  return (await told)[0];
}

async function heardInRoom(main, neighbour, stranger) {
  const heardBy = [];
  for (const [name, socket] of Object.entries({ main, neighbour, stranger })) {
    socket.on("said", (what) => heardBy.push(`${name} ${what}`));
  }
  for (const socket of [main, neighbour]) await socket.timeout(30000).emitWithAck("join", "blue");
  await stranger.timeout(30000).emitWithAck("say", "blue", "hello");
  await Promise.all([main, neighbour, stranger].map((socket) => echo(socket)));
  return heardBy.sort();
}

async function left(leaving, staying) {
  leaving.disconnect();
  return [leaving.connected, (await echo(staying, "still here"))[0]];
}

async function reconnected(socket) {
  const before = socket.id;
  const again = heard(socket, "connect");
  socket.io.engine.close();
  await again;
  return [socket.id !== before, (await echo(socket, "back"))[0]];
}

function plain(value) {
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    return Array.from(new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength));
  }
  return value.deep ? { deep: value.deep.map(plain) } : value;
}

if (typeof module !== "undefined") module.exports = features;
