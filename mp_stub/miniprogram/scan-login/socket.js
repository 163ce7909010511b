// The broker over Socket.IO, for a mini program that keeps a socket anyway.
//
//     const { overSocket } = require("./scan-login/socket");
//     const phone = new ScanLogin({ broker, app, wire: overSocket });
//
// The official client in vendor/ is the released file; only the transport below is ours.

import { io, WebSocket as WebSocketTransport } from "./vendor/socket.io.esm.min.js";
import { ScanLoginError, unreachable } from "./errors";

const PATIENCE_MS = 6000;

class WeChatTransport extends WebSocketTransport {
  createSocket(url) {
    return asWebSocket(wx.connectSocket({ url }));
  }
}

// A SocketTask of WeChat's in the shape of a browser's WebSocket.
function asWebSocket(task) {
  const socket = { send: (data) => task.send({ data }), close: () => task.close({}) };
  task.onOpen(() => socket.onopen());
  task.onMessage((event) => socket.onmessage(event));
  task.onClose((event) => socket.onclose(event));
  task.onError((event) => socket.onerror(event));
  return socket;
}

// One socket at a time, of the session that acted last.
class SocketWire {
  constructor(broker) {
    this._broker = broker;
    this._socket = null;
    this._session = null;
  }

  async send(act, payload, session) {
    if (this._session !== session || !this._socket.connected) await this._connect(session);
    const answer = await this._ask(act, payload);
    if (answer.error) throw new ScanLoginError(answer);
    return answer;
  }

  close() {
    if (this._socket) this._socket.close();
  }

  _connect(session) {
    this.close();
    this._session = session;
    // The client takes a URL's path for a namespace, and has another option for a prefix.
    const [, origin, prefix] = /^(\w+:\/\/[^/]+)(.*?)\/*$/.exec(this._broker);
    this._socket = io(`${origin}/phone`, {
      path: `${prefix}/socket.io/`,
      auth: { id: session.id, skey: session.skey },
      transports: [WeChatTransport],
      timeout: PATIENCE_MS,
      forceNew: true,
      reconnection: false, // whoever acts connects again
    });
    return new Promise((resolve, reject) => {
      this._socket.once("connect", resolve);
      this._socket.once("connect_error", ({ data, message }) => {
        reject(data ? new ScanLoginError(data) : unreachable(message));
      });
      this._socket.once("disconnect", (reason) => reject(unreachable(reason)));
    });
  }

  async _ask(act, payload) {
    try {
      return await this._socket.timeout(PATIENCE_MS).emitWithAck(act, payload);
    } catch (error) {
      throw unreachable(error.message);
    }
  }
}

export function overSocket(broker) {
  return new SocketWire(broker);
}
