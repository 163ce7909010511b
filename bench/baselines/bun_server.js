// A login server on Bun's API: Socket.IO over bun-engine, and Bun.serve for phones.

import { Server as Engine } from "@socket.io/bun-engine";
import { Server } from "socket.io";
import { errorBody } from "./errors.js";
import { serveLogins } from "./flow.js";

const SOCKETS = "/socket.io/";

const engine = new Engine({ path: SOCKETS });
const io = new Server();
io.bind(engine);
const answer = await serveLogins(io);

const server = Bun.serve({
  ...engine.handler(),
  hostname: "127.0.0.1",
  port: 0,
  // The longest that Bun has, because phones keep their connections open.
  idleTimeout: 255,
  fetch: (request, server) => {
    const { pathname } = new URL(request.url);
    return pathname === SOCKETS ? engine.handleRequest(request, server) : phone(request, pathname);
  },
});
console.log(`listening on http://127.0.0.1:${server.port}`);

async function phone(request, path) {
  try {
    return Response.json(await answer(path, await request.json(), request.headers.get("authorization")));
  } catch (error) {
    return Response.json(errorBody(error), { status: error.status ?? 500 });
  }
}
