// A room of the chat as its client knows it. chat.js keeps it up to date.

const TYPING_TTL_MS = 6000; // after it, a person counts as not typing
const JOIN_COUNT = 100; // messages in the answer of `join`

// A room, or the conversation with the person `to`.
//   self      the own subject, after the first join
//   title     the name of the other person, if it is known
//   messages  {offset, id, from, at, text?, data?, isDeleted?}, in order
//   pending   {id, text?, data?, state, error?}: own messages that are not in `messages` yet.
//             state: "waiting", "stored" or "failed"
//   members   {subject, name, nickname?, online}, by subject
//   readTo    the offset up to which the person has read
//   problem   {error, retry_after?} of a refused join, or why the room was left; else null
class Room {
  constructor(name, to = null) {
    Object.assign(this, { name, to, self: "", title: null, epoch: "", offset: 0, oldest: 0 });
    Object.assign(this, { messages: [], pending: [], may: [], members: new Map(), online: 0 });
    Object.assign(this, { typing: new Map(), readTo: 0, seenTo: 0, peerSeen: 0, unseen: 0 });
    Object.assign(this, { isWanted: false, isJoined: false, isLoading: false, hasMore: false });
    Object.assign(this, { isKnown: false, isEntering: false, mustEnter: false });
    Object.assign(this, { problem: null, mutedUntil: 0 });
    Object.assign(this, { nextTyping: null, typingTimer: null, isSending: false });
  }

  // The position after the entries that the client has, for `join`. An empty room has no epoch.
  get place() {
    if (!this.isKnown) return {};
    return { epoch: this.epoch, offset: this.epoch ? this.offset : 0 };
  }

  // The field of requests that names the room.
  get address() {
    return this.to ? { to: this.to } : { room: this.name };
  }

  // Messages of other people that are not read yet.
  get unread() {
    if (this.to && !this.isJoined) return this.unseen;
    return this.messages.filter((one) => this._isUnread(one)).length;
  }

  _isUnread({ offset, from, isDeleted }) {
    return offset > this.readTo && from.subject !== this.self && !isDeleted;
  }

  get typists() {
    const now = Date.now();
    return [...this.typing].filter(([, end]) => end > now).map(([subject]) => subject);
  }

  // Apply the answer of `join`. Without a recovery the list is replaced; also a list without an
  // epoch, because the answer to its place has all entries and may be of a later epoch.
  enter(answer, self) {
    if (!answer.recovered || !this.epoch) {
      const hasMore = !answer.recovered && answer.messages.length >= JOIN_COUNT;
      Object.assign(this, { messages: [], offset: 0, oldest: 0, hasMore });
    }
    if (!this.isKnown && !this.to) this.readTo = answer.offset; // earlier messages are not new
    if (this.epoch !== answer.epoch) {
      const seenMax = this.epoch ? 0 : answer.offset;
      for (const key of ["readTo", "seenTo", "peerSeen"]) this[key] = Math.min(this[key], seenMax);
    }
    const { room: name, epoch, online, may, members } = answer;
    Object.assign(this, { self, name, epoch, online, may, problem: null });
    Object.assign(this, { isKnown: true, isJoined: true });
    this.members = new Map(members.map((member) => [member.subject, member]));
    for (const entry of answer.messages) this.add(entry);
    this.offset = answer.offset;
    this.pending = this.pending.filter(({ state }) => state !== "stored");
  }

  // Add an entry at the end. An entry that the room has already is left out.
  add(entry) {
    const position = placeOf(entry);
    if (position <= this.offset) return;
    this.offset = position;
    if (!this.oldest) this.oldest = position;
    if (entry.type === "deleted") this._markDeleted(entry.offset);
    else this._addMessage(entry);
  }

  _addMessage(message) {
    const { id, from } = message;
    this.messages.push(message);
    this.typing.delete(from.subject);
    if (from.subject === this.self) this.pending = this.pending.filter((one) => one.id !== id);
    const member = this.members.get(from.subject);
    if (member) Object.assign(member, { nickname: undefined }, from);
  }

  // Add earlier entries, as `history` returns them.
  prepend(entries, more) {
    this.messages.unshift(...entries.filter(({ type }) => type !== "deleted"));
    for (const { type, offset } of entries) if (type === "deleted") this._markDeleted(offset);
    if (entries.length) this.oldest = placeOf(entries[0]);
    this.hasMore = more && entries.length > 0;
  }

  _markDeleted(offset) {
    const message = this.messages.find((one) => one.offset === offset);
    if (message) Object.assign(message, { isDeleted: true, text: undefined, data: undefined });
  }

  setTyping(subject, on) {
    if (on) this.typing.set(subject, Date.now() + TYPING_TTL_MS);
    else this.typing.delete(subject);
  }

  // Note that a person came or left. Returns whether the person is known.
  setOnline(subject, online) {
    const member = this.members.get(subject);
    if (member) member.online = online;
    this.online = [...this.members.values()].filter((one) => one.online).length;
    return Boolean(member);
  }

  // Apply an item of `conversations`.
  describe({ room, with: { name }, offset, seen }) {
    this.readTo = Math.max(this.readTo, seen);
    Object.assign(this, { name: room, title: name, unseen: Math.max(0, offset - this.readTo) });
  }
}

// The place of an entry. A deletion has its own, apart from that of its message.
function placeOf({ type, offset, entry }) {
  return type === "deleted" ? entry : offset;
}

export { Room, TYPING_TTL_MS };
