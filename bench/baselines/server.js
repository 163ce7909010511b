// A login server on Node: Socket.IO over WebSockets only, and node:http for phones.
//
// It implements a successful login of docs/protocol.md only.
// REDIS_URL: the Redis of all servers. ADAPTER: redis or sharded. CODE_URL: the image
// of every code.

import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { createJSONServer, errorBody, listen } from "./http.js";
import { LoginService } from "./login.js";
import { Refused, Store } from "./store.js";

const { REDIS_URL, ADAPTER, CODE_URL } = process.env;
const ADAPTERS = { redis: createAdapter, sharded: createShardedAdapter };

const commands = createClient({ url: REDIS_URL });
const subscriber = commands.duplicate();
await Promise.all([commands.connect(), subscriber.connect()]);

const http = createJSONServer(answer);
const io = new Server(http, {
  adapter: ADAPTERS[ADAPTER](commands, subscriber),
  serveClient: false,
  transports: ["websocket"],
});
const browsers = io.of("/login");
const service = new LoginService({
  store: await Store.open(commands),
  notify: (room, event, payload) => browsers.to(room).emit(event, payload),
  codeUrl: CODE_URL,
});

browsers.on("connection", (socket) => {
  const { address, headers } = socket.handshake;
  const acts = {
    begin: async () => {
      const begun = await service.begin([address, headers["user-agent"]]);
      socket.join(begun.login_id);
      return begun;
    },
    redeem: (proof) => service.redeem(proof),
  };
  for (const [name, act] of Object.entries(acts)) {
    socket.on(name, (payload, ack) => act(payload).then(ack, (error) => ack(errorBody(error))));
  }
});

const phones = {
  "/phone/session": (body) => service.openSession(body),
  "/phone/scan": async (body, bearer) => service.scan(body, await service.phone(bearer)),
  "/phone/confirm": async (body, bearer) => service.confirm(body, await service.phone(bearer)),
};

async function answer(path, body, headers) {
  const act = phones[path];
  if (act === undefined) throw new Refused(404, "invalid_request");
  return act(body, headers.authorization);
}

listen(http);
