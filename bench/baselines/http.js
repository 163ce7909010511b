// An HTTP server with JSON bodies.

import { createServer } from "node:http";
import { errorBody } from "./errors.js";

// Longer than a run, because phones keep their connections open.
const KEEP_ALIVE_MS = 600_000;

// act(path, body, headers): returns the body of the answer. It throws Refused.
export function createJSONServer(act) {
  return createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      answer(act, request, Buffer.concat(chunks))
        .then((body) => send(response, 200, body))
        .catch((error) => send(response, error.status ?? 500, errorBody(error)));
    });
  });
}

// Listen on a free port, and print the line that the benchmark waits for.
export function listen(server) {
  server.listen(0, "127.0.0.1", 4096, () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
  });
}

async function answer(act, request, content) {
  return act(request.url, JSON.parse(content), request.headers);
}

function send(response, status, body) {
  const content = JSON.stringify(body);
  const length = Buffer.byteLength(content);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": length });
  response.end(content);
}
