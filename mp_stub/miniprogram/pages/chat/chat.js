// The chat: a room, and conversations with its members. The phone connects with its session.

const config = require("../../config");
const { configured } = require("../../scan-login/index");
const { openChat } = require("../../scan-login/open_chat");
const { say, sayAll } = require("../../words");
const { memberItem, messageItems, nameOf, roomItem } = require("./items");

const RESTRICTION_SECONDS = 600;

Page({
  data: {
    words: {}, title: "", presence: "", banner: "", messages: [], rooms: [], members: [],
    isSideOpen: false, unread: 0, typing: "", text: "", hasMore: false, isEmpty: false, last: "",
  },

  onLoad() {
    wx.setNavigationBarTitle({ title: say("chat") });
    this.setData({
      words: sayAll("chatEmpty", "chatEarlier", "chatNew", "chatPeople", "chatBack",
        "chatConversations", "chatMembers", "chatUnverified", "chatYou", "chatWrite", "chatMute",
        "chatKick", "chatMessage", "chatSend", "chatDelete"),
    });
    this.chat = openChat(configured());
    this.lobby = this.chat.room(config.chatRoom);
    this.current = this.lobby;
    this.marker = null;
    this.chat.onchange = (what, room) => this.draw(what === "room" && room === this.current);
    this.chat.join(this.lobby);
    this.draw();
  },

  onUnload() {
    this.chat.close();
  },

  // Views

  // hasReturned: the client has joined again, so new messages were missed.
  draw(hasReturned = false) {
    const room = this.current;
    const isNew = room.unread > 0 && (this.marker === null || this.marker < room.readTo);
    if (isNew && (hasReturned || this.data.isSideOpen)) this.marker = room.readTo;
    const messages = messageItems(room, this.marker);
    if (room.isJoined && !this.data.isSideOpen && room.readTo < room.offset) this.chat.read(room);
    const rooms = [this.lobby, ...this.conversations()].map((one) => roomItem(one, room));
    this.setData({
      messages,
      rooms,
      title: roomItem(room, room).title,
      presence: room.isJoined ? this.presence() : "",
      banner: this.banner(),
      members: [...this.lobby.members.values()].map((one) => memberItem(this.lobby, one)),
      unread: rooms.reduce((sum, { unread }) => sum + unread, 0),
      typing: this.typing(),
      hasMore: room.hasMore,
      isEmpty: room.isJoined && messages.length === 0,
    });
    this.scrollToEnd(messages);
  },

  scrollToEnd(messages) {
    const last = messages.length ? messages[messages.length - 1].key : "";
    if (last !== this.data.last) this.setData({ last });
  },

  conversations() {
    const listed = this.chat.conversations.map((one) => this.chat.conversation(one.with.subject));
    return !this.current.to || listed.includes(this.current) ? listed : [this.current, ...listed];
  },

  presence() {
    const { to, online, members } = this.current;
    if (!to) return say("chatOnline", { count: online });
    const peer = members.get(to);
    return say(peer && peer.online ? "chatIsOnline" : "chatIsOffline");
  },

  banner() {
    const { status, problem, me } = this.chat;
    const { problem: refusal, mutedUntil } = this.current;
    if (status === "ended") return this.explain(problem);
    if (status !== "online") return say(me ? "chatOffline" : "chatConnecting");
    if (refusal && isRemoval(refusal)) return say("chatRemoved");
    if (refusal) return this.explain(refusal);
    return mutedUntil > Date.now() ? say("chatMuted") : "";
  },

  // The text of a problem for the person. Its description is for developers, and goes to the
  // console once: the page draws often.
  explain(problem) {
    if (problem !== this.explained) warn(problem);
    this.explained = problem;
    return say("chatEnded");
  },

  typing() {
    const { members, typists } = this.current;
    const names = typists.map((subject) => nameOf(members.get(subject) || { subject }));
    return names.length ? say("chatTyping", { names: names.join(say("comma")) }) : "";
  },

  // Acts

  input({ detail: { value } }) {
    this.setData({ text: value });
    this.chat.typing(this.current, value !== "");
  },

  send() {
    const text = this.data.text.trim();
    if (!text) return;
    this.marker = null;
    this.setData({ text: "" });
    this.chat.typing(this.current, false);
    this.chat.send(this.current, { text });
  },

  earlier() {
    this.attempt(this.chat.history(this.current));
  },

  remove({ currentTarget }) {
    this.attempt(this.chat.delete(this.current, { offset: currentTarget.dataset.offset }));
  },

  // Send a failed message again.
  again({ currentTarget }) {
    const message = this.current.pending.find(({ id }) => id === currentTarget.dataset.id);
    if (message && message.state === "failed") this.chat.repeat(this.current, message);
  },

  show({ currentTarget }) {
    const { to } = currentTarget.dataset;
    const room = to ? this.chat.conversation(to) : this.lobby;
    if (room !== this.current) {
      if (this.current.to) this.chat.leave(this.current);
      this.marker = room.to && room.unseen ? room.readTo : null;
      this.current = room;
      this.chat.join(room);
    }
    this.setData({ isSideOpen: false });
    this.draw();
  },

  mute(event) {
    this.restrict("mute", event);
  },

  kick(event) {
    this.restrict("kick", event);
  },

  restrict(act, { currentTarget }) {
    this.attempt(this.chat[act](this.lobby, currentTarget.dataset.to, RESTRICTION_SECONDS));
  },

  toggleSide() {
    this.setData({ isSideOpen: !this.data.isSideOpen });
    this.draw();
  },

  async attempt(act) {
    try {
      await act;
    } catch (error) {
      warn(error);
      wx.showToast({ title: say("chatImpossible"), icon: "none" });
    }
  },
});

// A moderator has removed the person, now or before the join.
function isRemoval({ error, retry_after }) {
  return error === "kicked" || (error === "access_denied" && Boolean(retry_after));
}

function warn({ error, error_description, message }) {
  console.warn(`chat: ${[error, error_description || message].filter(Boolean).join(": ")}`);
}
