// The official Socket.IO client, controlled over stdin and stdout, with one JSON object per line.
//
//   in   {"do": "connect", "url": …, "options": {…}}
//        {"do": "emit", "event": …, "arguments": […]}
//        {"do": "cut"}       close the transport; the client reconnects
//        {"do": "close"}
//   out  {"answer": …} or {"refused": …} for each command, {"push": event, "payload": …} at any time
"use strict";

const readline = require("node:readline");
const { io } = require("socket.io-client");

let socket;

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function connect({ url, options }) {
  socket = io(url, { reconnectionDelay: 50, reconnectionDelayMax: 100, ...options });
  let answered = false;
  socket.on("connect", () => {
    if (answered) return say({ push: "connect", payload: null });
    answered = true;
    say({ answer: { transport: socket.io.engine.transport.name } });
  });
  socket.on("connect_error", (error) => {
    if (!answered) say({ refused: { message: error.message, data: error.data ?? null } });
    answered = true;
  });
  socket.on("disconnect", (reason) => say({ push: "disconnect", payload: reason }));
  socket.onAny((event, payload) => say({ push: event, payload }));
}

const ACTS = {
  connect,
  emit: ({ event, arguments: values }) =>
    socket.timeout(30000).emit(event, ...values, (late, answer) =>
      say(late ? { refused: "no ack" } : { answer }),
    ),
  transport: () => say({ answer: socket.io.engine.transport.name }),
  cut: () => {
    socket.io.engine.close();
    say({ answer: null });
  },
  close: () => {
    socket.close();
    process.exit(0);
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  ACTS[command.do](command);
});
