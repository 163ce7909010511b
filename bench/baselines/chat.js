// Chat rooms on Node: Socket.IO over WebSockets only, with its Redis adapter.
//
// A member joins a room and gets its last messages. A message is stored in the room's stream before it
// is sent to the members.
// REDIS_URL: the Redis of all servers.

import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { errorBody, Refused } from "./errors.js";
import { createJSONServer, listen } from "./http.js";
import { loadScripts } from "./scripts.js";
import { hash, matches, random } from "./secrets.js";
import { Store } from "./store.js";

const HISTORY = 100;
const MESSAGE_ID_TTL_MS = 600_000;
const ROOM_LIMIT = 1_000;
const RETENTION = 604_800;
const MARK_TTL_MS = 120_000;

const redis = createClient({ url: process.env.REDIS_URL });
const subscriber = redis.duplicate();
await Promise.all([redis.connect(), subscriber.connect()]);
const run = await loadScripts(redis);
const store = await Store.open(redis);

const http = createJSONServer(answer);
const io = new Server(http, {
  adapter: createAdapter(redis, subscriber),
  serveClient: false,
  transports: ["websocket"],
});
const members = io.of("/chat");

async function answer(path, { js_code }) {
  if (path !== "/phone/session") throw new Refused(404, "invalid_request");
  const [id, skey] = [random(16), random(32)];
  await store.putSession(id, { skey_hash: hash(skey), openid: js_code });
  return { id, skey };
}

members.use((socket, next) => authenticate(socket).then(() => next(), next));

async function authenticate(socket) {
  const { id, skey } = socket.handshake.auth;
  const session = await store.session(id);
  if (!matches(session.skey_hash, hash(skey))) throw new Refused(401, "invalid_session");
  socket.data.from = { subject: session.openid, name: null };
}

members.on("connection", (socket) => {
  for (const [name, act] of Object.entries(ACTS)) {
    socket.on(name, (payload, ack) => act(socket, payload).then(ack, (error) => ack(errorBody(error))));
  }
});

const ACTS = {
  async join(socket, { room }) {
    const [found, record] = await Promise.all([
      redis.xRevRange(key("room-entries", room), "+", "-", { COUNT: HISTORY }),
      redis.hGetAll(key("room", room)),
    ]);
    await socket.join(room);
    const messages = found.reverse().map(({ id, message }) => ({
      ...JSON.parse(message.message),
      offset: Number.parseInt(id, 10),
    }));
    return { room, epoch: record.epoch ?? "", offset: Number(record.head ?? 0), recovered: false, messages };
  },

  async say(socket, { room, id, text }) {
    if (!socket.rooms.has(room)) throw new Refused(403, "access_denied");
    const { from } = socket.data;
    const message = { id, from, text, at: Date.now() / 1000 };
    const offset = await append(room, message);
    members.to(room).emit("chat-message", { room, offset, ...message });
    return { room, offset, at: message.at };
  },
};

// Store a message, and return its offset.
async function append(room, message) {
  const by = hash(`${message.from.subject}\0${message.id}`).slice(0, 32);
  const keys = ["room", "room-entries", "room-place", "room-instances", "rooms", "room-kick", "room-mute"];
  const names = keys.map((kind) => (kind === "room-place" ? `${key(kind, room)}:${by}` : key(kind, room)));
  const [, offset] = await run("append", names, [
    ...["", "", Date.now(), room, "", MARK_TTL_MS],
    ...[room, message.at, "message", JSON.stringify(message), MESSAGE_ID_TTL_MS],
    ...[ROOM_LIMIT, RETENTION, 1000 * RETENTION, random(8)],
  ]);
  return offset;
}

function key(kind, room) {
  return `scanlogin:{A}:${kind}:default/${room}`;
}

listen(http);
