// Tunnels on Node: ws for clients, node:http for backends and callbacks.
//
// It opens tunnels, and passes messages without an id in both directions. A record is in Redis, and
// the process has one small object for each tunnel.
// REDIS_URL: the Redis of all servers. CALLBACK_URL, SECRET, TOKEN: of the backend.

import { createClient } from "redis";
import { WebSocketServer } from "ws";
import { Callbacks } from "./callbacks.js";
import { createJSONServer, listen } from "./http.js";
import { loadScripts } from "./scripts.js";
import { hash, matches, random } from "./secrets.js";
import { Refused } from "./errors.js";
import { TunnelStore } from "./tunnel_store.js";

const { REDIS_URL, CALLBACK_URL, SECRET, TOKEN } = process.env;
const TICKET_TTL = 60;
const FRAME_MAX_BYTES = 65_536;
const WAITING_MAX = 16;
const BATCH = 100;
const INVALID_GRANT = { code: 4001, reason: "invalid_grant" };
const UNAVAILABLE = { code: 1013, reason: "temporarily_unavailable" };
const PUSH = /^\/tunnels\/([\w-]{22})\/push$/;

const redis = createClient({ url: REDIS_URL });
await redis.connect();
const store = new TunnelStore(redis, await loadScripts(redis), random(8));
const callbacks = new Callbacks(CALLBACK_URL, SECRET);
const sockets = new Map();
const news = new Set();
let isReading = false;
await store.subscribe(wake);

// ---- calls of the backend ----

async function answer(path, body, headers) {
  if (!matches(headers.authorization ?? "", `Bearer ${TOKEN}`)) throw new Refused(401, "invalid_client");
  if (path === "/tunnels") return create();
  const found = PUSH.exec(path);
  if (found === null) throw new Refused(404, "invalid_request");
  const offset = await store.append(found[1], JSON.stringify(body.data));
  if (offset === null) throw new Refused(410, "unknown_tunnel");
  return { offset };
}

async function create() {
  const id = random(17).slice(0, 22);
  const ticket = id[0] + random(32).slice(1);
  const record = { id, app: "default", api: "native", meta: "{}", groups: [], attachment: 0, version: 0 };
  await store.putTicket(ticket, record, TICKET_TTL * 1000);
  return { tunnel_id: id, url: `ws://127.0.0.1/tunnel/${ticket}`, expires_in: TICKET_TTL };
}

// ---- frames of clients ----

async function open(socket, ticket, ip, userAgent) {
  const pending = await store.takeTicket(ticket);
  if (pending === null) return finish(socket, INVALID_GRANT);
  const [resume, epoch, now] = [random(32), random(6), Date.now() / 1000];
  const tunnel = {
    ...pending,
    resume_hash: hash(resume),
    state: "open",
    attachment: 1,
    version: 1,
    instance: store.instance,
    epoch,
    opened_at: now,
    seen_at: now,
  };
  try {
    const seq = await store.open(tunnel);
    await callbacks.send("tunnel.open", tunnel, seq, { ip, user_agent: userAgent, resumed: false });
  } catch {
    return finish(socket, UNAVAILABLE);
  }
  socket.tunnel = { id: tunnel.id, attachment: 1, position: 0, queue: null };
  const opened = { tunnel_id: tunnel.id, resume, epoch, offset: 0, recovered: true, ping_every: 25 };
  socket.send(JSON.stringify({ type: "open", ...opened }));
  sockets.set(tunnel.id, socket);
  wake(tunnel.id);
}

function finish(socket, { code, reason }) {
  socket.send(JSON.stringify({ type: "close", code, reason }));
  socket.close(code, reason);
}

function onMessage(content) {
  const frame = JSON.parse(content);
  if (frame.type === "ping") this.send('{"type":"pong"}');
  if (frame.type === "message") put(this, frame);
}

function onClose() {
  if (this.tunnel) sockets.delete(this.tunnel.id);
}

// Deliver a message after the earlier ones of its tunnel.
function put(socket, frame) {
  const { tunnel } = socket;
  if (tunnel.queue !== null) {
    tunnel.queue.push(frame);
    if (tunnel.queue.length >= WAITING_MAX) socket.pause();
    return;
  }
  tunnel.queue = [frame];
  deliverAll(socket).catch(console.error);
}

async function deliverAll(socket) {
  const { tunnel } = socket;
  while (tunnel.queue.length > 0) {
    const numbered = await store.number(tunnel.id, tunnel.attachment);
    if (numbered === null) break;
    await callbacks.send("tunnel.message", numbered.tunnel, numbered.seq, { data: tunnel.queue[0].data });
    tunnel.queue.shift();
    if (socket.isPaused) socket.resume();
  }
  tunnel.queue = null;
}

// ---- messages of the backend ----

function wake(id) {
  news.add(id);
  if (!isReading) readNews().catch(console.error);
}

// Read the news of many tunnels at a time.
async function readNews() {
  isReading = true;
  try {
    while (news.size > 0) await readBatch();
  } finally {
    isReading = false;
  }
}

async function readBatch() {
  const ids = [...news].slice(0, BATCH);
  for (const id of ids) news.delete(id);
  const waiting = ids.map((id) => sockets.get(id)).filter((socket) => socket !== undefined);
  if (waiting.length === 0) return;
  const readings = await store.read(waiting.map((socket) => socket.tunnel));
  readings.forEach((messages, index) => deliver(waiting[index], messages));
}

function deliver(socket, messages) {
  for (const [offset, data] of messages) {
    socket.send(`{"type":"message","offset":${offset},"data":${data}}`);
    socket.tunnel.position = offset;
  }
}

const websockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: false,
  clientTracking: false,
  maxPayload: FRAME_MAX_BYTES,
});
const http = createJSONServer(answer);
http.on("upgrade", (request, connection, head) => {
  websockets.handleUpgrade(request, connection, head, (socket) => {
    socket.on("message", onMessage);
    socket.on("close", onClose);
    const ticket = request.url.slice("/tunnel/".length);
    open(socket, ticket, connection.remoteAddress, request.headers["user-agent"]).catch(console.error);
  });
});
listen(http);
