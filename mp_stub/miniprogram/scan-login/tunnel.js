// A client of a tunnel (docs/tunnels.md), for web pages and mini programs.
//
//     const tunnel = new Tunnel({ connect, create, onopen, onmessage, onstatus });
//     const reply = await tunnel.send({ act: "play" });
//
//   create ──▶ url ──▶ open {tunnel_id, resume, epoch, offset} ──▶ messages, replies
//                        ▲                                          │
//                        └──── resume, after a random delay ◀──── socket lost
//
// A message waits until it is answered. It keeps its id when it is sent again, so that the backend
// processes it once. Data is written by people: show it as text, never as markup.

const FIRST_DELAY_MS = 1000;
const LAST_DELAY_MS = 30_000;
const OPEN_TIMEOUT_MS = 10_000;
const ANSWER_DELAY_MS = 10_000; // the most that a pong may take

const INVALID_GRANT = 4001; // the tunnel is unknown, or has ended
const LOST = new Set([1001, 1005, 1006, 1011, 1012, 1013, 4029]);

// status: "connecting", "open", "away" (it connects again) or "ended" (with `problem`)
//   connect(url): returns a WebSocket; in a mini program `connectSocket` of ./wechat_socket.js
//   create(): resolves with {url} of a new tunnel, from your backend. It is called again after a
//     rejection, unless the error has `isFinal`
//   saved: what onsave has stored before, so that a reload resumes; onsave(saved) to store it
//   onopen({recovered}): recovered is false if messages can be missing, as in a new tunnel
//   onmessage(data), onstatus(status, problem)
class Tunnel {
  constructor({ connect, create, saved = null, onsave = () => {}, onopen, onmessage, onstatus }) {
    Object.assign(this, { connect, create, saved, onsave, onopen, onmessage, onstatus });
    Object.assign(this, { status: "connecting", problem: null });
    this._pending = new Map();
    this._attempts = 0;
    this._run = Math.random().toString(36).slice(2, 12); // ids differ from those before a reload
    this._count = 0;
    this._next();
  }

  // Send a message. Resolves with the reply of the backend, and rejects with {error, message}.
  send(data) {
    if (this.status === "ended") return Promise.reject(failure("ended", "the tunnel has ended"));
    const id = `${this._run}-${this._count += 1}`;
    const answered = new Promise((resolve, reject) => {
      this._pending.set(id, { data, resolve, reject });
    });
    if (this.status === "open") this._transmit({ type: "message", id, data });
    return answered;
  }

  // Connect now, for example when the page is shown again.
  wake() {
    if (this.status === "open") this._ping();
    else if (this._timer && !this._socket) this._next();
  }

  // End the tunnel.
  close() {
    if (this.status === "open") this._transmit({ type: "close" });
    this._end({ code: 1000, reason: "closed" });
  }

  // Connections

  async _next() {
    this._setTimer(null);
    const { saved } = this;
    if (saved) {
      const { tunnel_id, resume, epoch, offset } = saved;
      this._open(saved.url, { type: "resume", tunnel_id, resume, epoch, offset });
      return;
    }
    this._socket = CREATING;
    try {
      const { url } = await this.create();
      if (this.status === "ended") return;
      this._socket = null;
      this._open(url, null);
    } catch (error) {
      this._socket = null;
      if (this.status === "ended") return;
      if (error.isFinal) this._end({ code: 0, reason: error.message, error });
      else this._retry();
    }
  }

  _open(url, first) {
    const socket = this.connect(url);
    this._socket = socket;
    this._closed = null;
    this._url = url.replace(/\/tunnel\/[^/]*$/, "/tunnel"); // without the ticket
    this._setTimer(() => this._lost({ code: 1006 }), OPEN_TIMEOUT_MS);
    const mine = (act) => (event) => { if (this._socket === socket) act(event || {}); };
    socket.onopen = mine(() => { if (first) this._transmit(first); });
    socket.onmessage = mine(({ data }) => this._receive(JSON.parse(data)));
    socket.onerror = mine(() => this._lost({ code: 1006 })); // WeChat reports no close after it
    socket.onclose = mine((event) => this._lost(this._closed || event));
  }

  _lost({ code = 1006, reason = "" }) {
    const socket = this._socket;
    this._socket = null; // a late event of the socket is ignored
    if (socket) socket.close();
    if (code === INVALID_GRANT) this._renew();
    else if (LOST.has(code)) this._retry();
    else this._end({ code, reason });
  }

  // Ask the backend for a new tunnel. Messages without a reply may have been processed.
  _renew() {
    this._save(null);
    this._rejectAll("unreachable", "the tunnel has ended before the reply");
    this._retry();
  }

  _retry() {
    const most = Math.min(FIRST_DELAY_MS * 2 ** this._attempts, LAST_DELAY_MS);
    this._attempts += 1;
    this._setTimer(() => this._next(), most * (0.1 + 0.9 * Math.random()));
    this._setStatus(this.saved ? "away" : "connecting");
  }

  _end(problem) {
    const socket = this._socket;
    this._socket = null;
    if (socket && socket !== CREATING) socket.close();
    this._setTimer(null);
    this._save(null);
    this._rejectAll("ended", problem.reason || "the tunnel has ended");
    this._setStatus("ended", problem);
  }

  // Frames

  _receive(frame) {
    const { type } = frame;
    if (this.status === "open") this._setTimer(() => this._ping(), this._pingMs);
    if (type === "open") this._opened(frame);
    else if (type === "message") this._message(frame);
    else if (type === "reply") this._reply(frame);
    else if (type === "close") this._closed = frame; // the close event of the socket follows
  }

  _opened({ tunnel_id, resume, epoch, offset, recovered, ping_every }) {
    const isNew = !this.saved;
    this._save({ url: this._url, tunnel_id, resume, epoch, offset });
    this._attempts = 0;
    this._pingMs = ping_every * 1000;
    this._setTimer(() => this._ping(), this._pingMs);
    this._setStatus("open");
    for (const [id, { data }] of this._pending) this._transmit({ type: "message", id, data });
    this.onopen({ recovered: recovered && !isNew });
  }

  _message({ offset, data }) {
    if (offset <= this.saved.offset) return;
    this._save({ ...this.saved, offset });
    this._transmit({ type: "ack", offset });
    this.onmessage(data);
  }

  _reply({ id, data, error, error_description }) {
    const message = this._pending.get(id);
    if (!message) return;
    this._pending.delete(id);
    if (error) message.reject(failure(error, error_description));
    else message.resolve(data);
  }

  _ping() {
    this._transmit({ type: "ping" });
    this._setTimer(() => this._lost({ code: 1006 }), ANSWER_DELAY_MS);
  }

  _transmit(frame) {
    this._socket.send(JSON.stringify(frame));
  }

  _rejectAll(error, message) {
    const waiting = [...this._pending.values()];
    this._pending.clear();
    for (const { reject } of waiting) reject(failure(error, message));
  }

  _save(saved) {
    this.saved = saved;
    this.onsave(saved);
  }

  _setStatus(status, problem = null) {
    if (this.status === status) return;
    Object.assign(this, { status, problem });
    this.onstatus(status, problem);
  }

  // There is one timer: for the next attempt, the frame `open`, the next ping or its answer.
  _setTimer(act, milliseconds) {
    clearTimeout(this._timer);
    this._timer = act && setTimeout(act, milliseconds);
  }
}

const CREATING = { close() {} }; // in place of the socket, while the backend creates a tunnel

function failure(error, message) {
  return Object.assign(new Error(message), { error });
}

export { Tunnel };
