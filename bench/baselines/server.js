// The login on Node at its best: Socket.IO over websockets alone, phones on plain node:http.
//
// It speaks what docs/protocol.md says of a login that goes well, and no more.
// REDIS_URL: one Redis for all servers.  ADAPTER: redis or sharded.  CODE_URL: the
// picture of every code.

import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { Flow } from "./flow.js";
import { Refused, Store } from "./store.js";

const { REDIS_URL, ADAPTER, CODE_URL } = process.env;
const ADAPTERS = { redis: createAdapter, sharded: createShardedAdapter };
// Longer than a run: phones keep their connections.
const KEEP_ALIVE_MS = 600_000;

const commands = createClient({ url: REDIS_URL });
const subscriber = commands.duplicate();
await Promise.all([commands.connect(), subscriber.connect()]);

const http = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, onRequest);
const io = new Server(http, {
  adapter: ADAPTERS[ADAPTER](commands, subscriber),
  serveClient: false,
  transports: ["websocket"],
});
const browsers = io.of("/login");
const flow = new Flow({
  store: await Store.open(commands),
  tell: (room, event, payload) => browsers.to(room).emit(event, payload),
  codeUrl: CODE_URL,
});

browsers.on("connection", (socket) => {
  const { address, headers } = socket.handshake;
  const verbs = {
    begin: async () => {
      const begun = await flow.begin([address, headers["user-agent"]]);
      socket.join(begun.login_id);
      return begun;
    },
    redeem: (owned) => flow.redeem(owned),
  };
  for (const [name, act] of Object.entries(verbs)) {
    socket.on(name, (payload, ack) => act(payload).then(ack, (error) => ack(refusal(error))));
  }
});

const phones = {
  "/phone/session": (body) => flow.openSession(body),
  "/phone/scan": async (body, bearer) => flow.scan(body, await flow.phone(bearer)),
  "/phone/confirm": async (body, bearer) => flow.confirm(body, await flow.phone(bearer)),
};

function onRequest(request, response) {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    answered(request, Buffer.concat(pieces))
      .then((body) => send(response, 200, body))
      .catch((error) => send(response, error.status ?? 500, refusal(error)));
  });
}

async function answered(request, content) {
  const act = phones[request.url];
  if (act === undefined) throw new Refused(404, "invalid_request");
  return act(JSON.parse(content), request.headers.authorization);
}

function send(response, status, body) {
  const content = JSON.stringify(body);
  const length = Buffer.byteLength(content);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": length });
  response.end(content);
}

function refusal(error) {
  if (!(error instanceof Refused)) console.error(error);
  return { error: error.message };
}

http.listen(0, "127.0.0.1", 4096, () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});
