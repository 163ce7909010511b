// The login flow over Socket.IO and HTTP, for a server on Node or Bun.
//
// It implements a successful login of docs/protocol.md only.
// REDIS_URL: the Redis of all servers. ADAPTER: redis or sharded. CODE_URL: the image
// of every code.

import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { errorBody, Refused } from "./errors.js";
import { LoginService } from "./login.js";
import { Store } from "./store.js";

const ADAPTERS = { redis: createAdapter, sharded: createShardedAdapter };

// Serve browsers at the Socket.IO server `io`. Returns the answer to a phone's request:
// answer(path, body, authorization) returns the body of the response. It throws Refused.
export async function serveLogins(io) {
  const { REDIS_URL, ADAPTER, CODE_URL } = process.env;
  const commands = createClient({ url: REDIS_URL });
  const subscriber = commands.duplicate();
  await Promise.all([commands.connect(), subscriber.connect()]);

  io.adapter(ADAPTERS[ADAPTER](commands, subscriber));
  const browsers = io.of("/login");
  const service = new LoginService({
    store: await Store.open(commands),
    notify: (room, event, payload) => browsers.to(room).emit(event, payload),
    codeUrl: CODE_URL,
  });
  serveBrowsers(browsers, service);
  return phoneAnswer(service);
}

function serveBrowsers(browsers, service) {
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
}

function phoneAnswer(service) {
  const acts = {
    "/phone/session": (body) => service.openSession(body),
    "/phone/scan": async (body, bearer) => service.scan(body, await service.phone(bearer)),
    "/phone/confirm": async (body, bearer) => service.confirm(body, await service.phone(bearer)),
  };
  return async (path, body, authorization) => {
    const act = acts[path];
    if (act === undefined) throw new Refused(404, "invalid_request");
    return act(body, authorization);
  };
}
