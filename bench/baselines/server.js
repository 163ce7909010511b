// A login server on Node's API: Socket.IO over WebSockets only, and node:http for phones.
// Bun runs it too.

import { Server } from "socket.io";
import { serveLogins } from "./flow.js";
import { createJSONServer, listen } from "./http.js";

const io = new Server({ serveClient: false, transports: ["websocket"] });
const answer = await serveLogins(io);
const http = createJSONServer((path, body, headers) => answer(path, body, headers.authorization));
io.attach(http);
listen(http);
