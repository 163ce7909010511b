// Calls the broker over Socket.IO, for a mini program that already uses a socket.
//
//     const { overSocket } = require("./scan-login/socket");
//     const phone = new ScanLogin({ broker, app, wire: overSocket });
//
// vendor/ contains the official client as released. This file adds a transport for WeChat.

import { io, WebSocket as WebSocketTransport } from "./vendor/socket.io.esm.min.js";
import { ScanLoginError, unreachable } from "./errors";
import { connectSocket } from "./wechat_socket";

const ANSWER_TIMEOUT_MS = 6000;

class WeChatTransport extends WebSocketTransport {
  createSocket(url) {
    return connectSocket(url);
  }
}

// Open a socket of the official client to a namespace of the broker, such as "/chat".
// auth: the payload of CONNECT, or a function that passes it to its argument.
export function openSocket(broker, namespace, options) {
  // The client reads the path of the URL as a namespace; a path prefix has its own option.
  const [, origin, prefix] = /^(\w+:\/\/[^/]+)(.*?)\/*$/.exec(broker);
  return io(`${origin}${namespace}`, Object.assign({
    path: `${prefix}/socket.io/`,
    transports: [WeChatTransport],
    timeout: ANSWER_TIMEOUT_MS,
    forceNew: true,
  }, options));
}

// One socket at a time, for the session of the last act.
class SocketWire {
  constructor(broker) {
    this._broker = broker;
    this._socket = null;
    this._session = null;
  }

  async send(act, payload, session) {
    if (this._session !== session || !this._socket.connected) await this._connect(session);
    const answer = await this._emit(act, payload);
    if (answer.error) throw new ScanLoginError(answer);
    return answer;
  }

  close() {
    if (this._socket) this._socket.close();
  }

  _connect(session) {
    this.close();
    this._session = session;
    this._socket = openSocket(this._broker, "/phone", {
      auth: { id: session.id, skey: session.skey },
      reconnection: false, // the next act connects again
    });
    return new Promise((resolve, reject) => {
      this._socket.once("connect", resolve);
      this._socket.once("connect_error", ({ data, message }) => {
        reject(data ? new ScanLoginError(data) : unreachable(message));
      });
      this._socket.once("disconnect", (reason) => reject(unreachable(reason)));
    });
  }

  async _emit(act, payload) {
    try {
      return await this._socket.timeout(ANSWER_TIMEOUT_MS).emitWithAck(act, payload);
    } catch (error) {
      throw unreachable(error.message);
    }
  }
}

export function overSocket(broker) {
  return new SocketWire(broker);
}
