// A client of the broker's chat (docs/chat.md), for web pages and mini programs.
//
//     const chat = new Chat({ open, credentials: async () => ({ token }) });
//     chat.onchange = (what, room) => draw();
//     const lobby = chat.room("lobby");     // or chat.conversation(subject)
//     chat.join(lobby);
//     chat.send(lobby, { text: "hello" });
//
//   connect ──▶ chat-ready ──▶ join {epoch, offset} ──▶ pushes, in the order of their offsets
//      ▲                                                  │
//      └──────────── resume ◀──── connection lost ◀───────┘
//
// The client joins again after each connection and reads what it has missed. A message waits in a
// queue until the broker has stored it, and keeps its id, so a repetition is not stored twice.
// Text, names and nicknames are written by people: show them as text, never as markup.

import { Room, TYPING_TTL_MS } from "./chat_room.js";

const ANSWER_TIMEOUT_MS = 8000;
const RETRY_DELAY = 2; // seconds, if the broker sends no `retry_after`
const REPEAT_LIMIT_MS = 9 * 60_000; // the broker knows the id of a message for 10 minutes
const TYPING_INTERVAL = 2.5; // seconds; the broker drops a `typing` within 2 s of another
const HISTORY_COUNT = 50;

const TEMPORARY = new Set(["rate_limited", "temporarily_unavailable", "unreachable"]);
const OUTDATED = new Set(["invalid_grant", "invalid_session"]); // other credentials can help

// The connection and its rooms.
//   status: "connecting", "online", "offline" (it reconnects) or "ended" (with `problem`)
//   open(auth): returns a Socket.IO socket of the namespace /chat; auth as for the official client
//   credentials(isRefused): resolves with {token, app?} or {id, skey}; rejects if the person has to
//     log in again. isRefused: the broker does not know the last ones.
//   onchange(what, room): what is "status", "room", "messages", "members", "typing" or
//     "conversations"; room is null if it concerns all
//   resume: the secret of an earlier connection, if there is one; onresume(secret) to store it
class Chat {
  constructor({ open, credentials, resume = "", nickname = "", onresume = () => {} }) {
    Object.assign(this, { credentials, resume, nickname, onresume, onchange: () => {} });
    Object.assign(this, { status: "connecting", problem: null, me: null, conversations: [] });
    this._isRefused = false;
    this._rooms = new Set();
    this._timers = new Set();
    this._socket = open((give) => this._authenticate(give));
    this._listen({
      connect_error: (error) => this._refused(error),
      disconnect: (reason) => this._disconnected(reason),
      "chat-ready": (ready) => this._ready(ready),
      "chat-message": (entry) => this._push(entry),
      "chat-deleted": (entry) => this._push({ ...entry, type: "deleted" }),
      "chat-joined": ({ room, subject }) => this._present(room, subject, true),
      "chat-left": ({ room, subject }) => this._present(room, subject, false),
      "chat-online": ({ room, online }) => this._update(room, "members", { online }),
      "chat-typing": (typing) => this._typed(typing),
      "chat-seen": (seen) => this._seen(seen),
      "chat-muted": ({ room, seconds }) => {
        this._update(room, "room", { mutedUntil: Date.now() + seconds * 1000 });
      },
      "chat-closed": (closed) => this._closed(closed),
    });
  }

  // The room with this name; the same object each time.
  room(name) {
    return this._find((room) => room.name === name && !room.to) || this._add(new Room(name));
  }

  // The conversation with a person.
  conversation(subject) {
    return this._find(({ to }) => to === subject) || this._add(new Room("", subject));
  }

  // Stay in a room, now and after each connection.
  join(room) {
    room.isWanted = true;
    this._join(room);
  }

  leave(room) {
    if (room.isJoined) this._socket.emit("leave", room.address);
    Object.assign(room, { isWanted: false, isJoined: false });
  }

  // Queue a message. Rooms show it in `pending` until it is stored.
  send(room, content) {
    room.pending.push({ id: newId(), state: "waiting", since: Date.now(), ...content });
    this.onchange("messages", room);
    this._flush(room);
  }

  // Send a failed message again, as a new one.
  repeat(room, message) {
    Object.assign(message, { id: newId(), state: "waiting", since: Date.now(), error: undefined });
    this.onchange("messages", room);
    this._flush(room);
  }

  discard(room, message) {
    room.pending = room.pending.filter((one) => one !== message);
    this.onchange("messages", room);
  }

  // Load earlier messages. Resolves when they are in the list.
  async history(room) {
    if (room.isLoading || !room.hasMore || !room.isJoined) return;
    room.isLoading = true;
    const request = { ...room.address, before: room.oldest, limit: HISTORY_COUNT };
    try {
      await this._ask("history", request, ({ messages, more }) => room.prepend(messages, more));
    } finally {
      room.isLoading = false;
      this.onchange("messages", room);
    }
  }

  // Note that the person has read a room up to its last message.
  read(room) {
    if (room.readTo === room.offset) return;
    Object.assign(room, { readTo: room.offset, unseen: 0 });
    if (room.isJoined && room.offset > room.seenTo) {
      room.seenTo = room.offset;
      this._ask("seen", { ...room.address, offset: room.offset }).catch(() => { room.seenTo = 0; });
    }
    this.onchange("conversations", room);
  }

  // Note that the person types, or has stopped. The broker drops an event that is too early, so
  // the last state is sent after an interval.
  typing(room, on) {
    room.nextTyping = on;
    if (!room.typingTimer) this._sendTyping(room);
  }

  delete(room, { offset }) {
    return this._ask("delete", { ...room.address, offset });
  }

  mute(room, subject, seconds) {
    return this._ask("mute", { ...room.address, subject, seconds });
  }

  kick(room, subject, seconds) {
    return this._ask("kick", { ...room.address, subject, seconds });
  }

  // Connect again, with another nickname.
  rename(nickname) {
    this.nickname = nickname;
    this._socket.disconnect();
    this._socket.connect();
  }

  close() {
    for (const timer of this._timers) clearTimeout(timer);
    this._socket.offAny();
    this._socket.removeAllListeners();
    this._socket.disconnect();
    this.onchange = () => {};
  }

  // Connection

  _listen(handlers) {
    for (const [event, handle] of Object.entries(handlers)) this._socket.on(event, handle);
  }

  async _authenticate(give) {
    const nickname = this.nickname || undefined;
    try {
      give({ ...(this.resume ? { resume: this.resume } : await this.credentials(this._isRefused)), nickname });
    } catch (error) {
      if (error.error === "unreachable") this._refused({ data: error });
      else this._end({ error: "login_required", error_description: error.message });
    }
  }

  _ready({ subject, name, resume }) {
    this._isRefused = false;
    this.resume = resume;
    this.onresume(resume);
    this.me = { subject, name };
    this._setStatus("online");
    for (const room of this._rooms) if (room.isWanted) this._join(room);
    this._list();
  }

  // The broker has refused the connection, or there is no network; then the socket tries again.
  _refused({ data }) {
    if (!data) {
      this._setStatus("offline");
    } else if (TEMPORARY.has(data.error)) {
      this._setStatus("offline");
      this._later(() => this._socket.connect(), data.retry_after);
    } else if (OUTDATED.has(data.error) && !this._isRefused) {
      this._isRefused = !this.resume;
      this.resume = "";
      this.onresume("");
      this._later(() => this._socket.connect(), 0);
    } else {
      this._end(data);
    }
  }

  _disconnected(reason) {
    for (const room of this._rooms) room.isJoined = false;
    if (this.status === "ended") return;
    this._setStatus("offline");
    // The socket connects again by itself unless the broker has closed the namespace.
    if (reason === "io server disconnect") this._later(() => this._socket.connect());
  }

  _end(problem) {
    this.problem = problem;
    this._setStatus("ended");
    this._socket.disconnect();
  }

  _setStatus(status) {
    this.status = status;
    this.onchange("status", null);
  }

  // Rooms

  // One request at a time. A call during a request repeats it.
  async _join(room) {
    room.mustEnter = true;
    if (room.isEntering) return;
    room.isEntering = true;
    while (room.mustEnter && room.isWanted && this.status === "online") {
      room.mustEnter = false;
      await this._enter(room);
    }
    room.isEntering = false;
  }

  async _enter(room) {
    const enter = (answer) => room.isWanted && room.enter(answer, this.me.subject);
    try {
      await this._ask("join", { ...room.address, ...room.place }, enter);
      this._flush(room);
    } catch (failure) {
      room.problem = failure;
      const again = () => room.isJoined || this._join(room);
      if (TEMPORARY.has(failure.error)) this._later(again, failure.retry_after);
    }
    this.onchange("room", room);
  }

  // Entries of a room that is not joined are read by the next join.
  _push({ room: name, ...entry }) {
    const room = this._find((one) => one.name === name);
    if (room && room.isJoined) {
      room.add(entry);
      if (!room.epoch) this._join(room); // the first entry begins an epoch, which a push does not name
      this.onchange("messages", room);
    }
    if (name.startsWith("@")) this._list();
  }

  _present(name, subject, online) {
    const room = this._find((one) => one.name === name);
    if (!room) return;
    if (!room.setOnline(subject, online) && online) this._join(room); // its answer has the name
    this.onchange("members", room);
  }

  _typed({ room: name, subject, on }) {
    const room = this._find((one) => one.name === name);
    if (!room || subject === this.me.subject) return;
    room.setTyping(subject, on);
    this.onchange("typing", room);
    if (on) this._later(() => this.onchange("typing", room), TYPING_TTL_MS / 1000);
  }

  _sendTyping(room) {
    if (!room.isJoined || room.nextTyping === null) return;
    this._socket.emit("typing", { ...room.address, on: room.nextTyping });
    room.nextTyping = null;
    room.typingTimer = this._later(() => {
      room.typingTimer = null;
      this._sendTyping(room);
    }, TYPING_INTERVAL);
  }

  _seen({ room: name, subject, offset }) {
    const room = this._find((one) => one.name === name);
    if (!room || subject !== room.to) return;
    room.peerSeen = Math.max(room.peerSeen, offset);
    this.onchange("messages", room);
  }

  _closed({ room: name, reason }) {
    if (reason === "session_ended") {
      this._end({ error: "invalid_session", error_description: reason });
      return;
    }
    const room = this._find((one) => one.name === name);
    if (!room) return;
    room.isJoined = false;
    if (reason === "lost") this._join(room);
    else this._update(name, "room", { isWanted: false, problem: { error: reason } });
  }

  // Read the list of conversations, once for several calls.
  async _list() {
    this._isStale = true;
    if (this._isListing) return;
    this._isListing = true;
    try {
      while (this._isStale && this.status === "online") {
        this._isStale = false;
        await this._ask("conversations", {}, ({ conversations }) => {
          this.conversations = conversations;
        });
      }
      for (const one of this.conversations) this.conversation(one.with.subject).describe(one);
      this.onchange("conversations", null);
    } catch (failure) {
      this._later(() => this._list(), failure.retry_after);
    } finally {
      this._isListing = false;
    }
  }

  _update(name, what, fields) {
    const room = this._find((one) => one.name === name);
    if (!room) return;
    Object.assign(room, fields);
    this.onchange(what, room);
  }

  _find(fits) {
    return [...this._rooms].find(fits);
  }

  _add(room) {
    this._rooms.add(room);
    return room;
  }

  // Queue

  async _flush(room) {
    if (room.isSending) return;
    room.isSending = true;
    try {
      while (room.isJoined) {
        const message = room.pending.find(({ state }) => state === "waiting");
        if (!message || !(await this._say(room, message))) return;
      }
    } finally {
      room.isSending = false;
    }
  }

  // Send a message. Resolves with whether the next one can follow now.
  async _say(room, message) {
    const { id, text, data, since } = message;
    try {
      await this._ask("say", { ...room.address, id, text, data });
      message.state = "stored"; // it is in the list when its push arrives
      return true;
    } catch (failure) {
      if (TEMPORARY.has(failure.error) && Date.now() - since < REPEAT_LIMIT_MS) {
        this._later(() => this._flush(room), failure.retry_after);
        return false;
      }
      Object.assign(message, { state: "failed", error: failure });
      this.onchange("messages", room);
      return true;
    }
  }

  // Send an event. `use` gets the answer before the next push of the broker.
  _ask(event, payload, use = (answer) => answer) {
    return new Promise((resolve, reject) => {
      if (!this._socket.connected) {
        reject(new ChatError({ error: "unreachable", error_description: "no connection" }));
        return;
      }
      this._socket.timeout(ANSWER_TIMEOUT_MS).emit(event, payload, (late, answer) => {
        if (late) reject(new ChatError({ error: "unreachable", error_description: late.message }));
        else if (answer.error) reject(new ChatError(answer));
        else resolve(use(answer));
      });
    });
  }

  _later(act, seconds = RETRY_DELAY) {
    const timer = setTimeout(() => {
      this._timers.delete(timer);
      act();
    }, seconds * 1000);
    this._timers.add(timer);
    return timer;
  }
}

// A failed request, with the broker's error word or `unreachable`.
class ChatError extends Error {
  constructor({ error, error_description, retry_after }) {
    super(error_description);
    Object.assign(this, { name: "ChatError", error, retry_after });
  }
}

function newId() {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}

export { Chat, ChatError };
