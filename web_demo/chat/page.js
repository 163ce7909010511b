// The page of the chat: it draws the rooms of a `Chat` and passes on what the person does.

import { Chat } from "./chat.js";
import { MessageList, button, element, nameOf, personParts, reconcile } from "./messages.js";
import { explain, words } from "./words.js";

const RESTRICTION_SECONDS = 600;
const TICK_MS = 5000;
const NEAR_PX = 80; // so close to an end of the list counts as the end
const NAMES_SHOWN = 3;
const FIELD_MAX_PX = 160;

const $$ = (id) => document.getElementById(id);
const { broker, app, room: roomName, subject } = $$("chat").dataset;

// For this tab only: the secret that continues the chat, and the nickname.
const storageKey = `chat ${subject}`;
const stored = JSON.parse(sessionStorage.getItem(storageKey) || "{}");

function store(fields) {
  sessionStorage.setItem(storageKey, JSON.stringify(Object.assign(stored, fields)));
}

// The broker's URL may have a path, which Socket.IO would read as a namespace.
function open(auth) {
  const url = new URL(broker);
  const path = `${url.pathname.replace(/\/$/, "")}/socket.io/`;
  return io(`${url.origin}/chat`, { path, auth, forceNew: true, reconnectionDelayMax: 3000 });
}

// The site gives the token of the sign-in once. Later connections use `resume`.
async function credentials() {
  const response = await fetch("/chat/token", { headers: { "X-Requested-With": "fetch" } });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error_description);
  return { token: answer.access_token, app };
}

const chat = new Chat({
  open,
  credentials,
  resume: stored.resume || "",
  nickname: stored.nickname || "",
  onresume: (resume) => store({ resume }),
});
const lobby = chat.room(roomName);
const lobbyTitle = $$("title").textContent;
let current = lobby;
let marker = null; // the offset after which messages are new
let isAtEnd = true;
let drawn = { oldest: 0, offset: 0 }; // of the room on the screen

const list = new MessageList($$("messages"), {
  delete: (message) => attempt(chat.delete(current, message)),
  repeat: (message) => chat.repeat(current, message),
  discard: (message) => chat.discard(current, message),
});

const DRAW = {
  status: () => { drawStatus(); drawSide(); },
  room: (room) => { drawRoom(room, true); drawStatus(); },
  messages: (room) => { drawRoom(room); },
  members: (room) => { if (room === current) { drawTitle(); drawSide(); } },
  typing: (room) => { if (room === current) drawTyping(); },
  conversations: () => drawSide(),
};

chat.onchange = (what, room) => DRAW[what](room);
chat.join(lobby);
$$("empty").textContent = words.empty;
$$("earlier").textContent = words.earlier;
drawStatus();
drawTitle();
drawSide();
setInterval(() => { drawRoom(current); drawStatus(); }, TICK_MS);

// Views

function drawStatus() {
  const text = problemText();
  $$("status").textContent = text;
  $$("banner").classList.toggle("shown", text !== "");
  $$("again").hidden = chat.status !== "ended";
  const canWrite = chat.status !== "ended" && !(current.problem && !current.isWanted);
  $$("text").disabled = !canWrite;
  $$("send").disabled = !canWrite;
}

function problemText() {
  if (chat.status === "ended") {
    const why = explain(chat.problem);
    return chat.problem.error === "access_denied" ? words.refused(why) : words.ended;
  }
  if (chat.status !== "online") return chat.me ? words.offline : words.connecting;
  const { problem } = current;
  if (problem) return refusalText(problem);
  const minutes = Math.ceil((current.mutedUntil - Date.now()) / 60_000);
  return minutes > 0 ? words.youAreMuted(minutes) : "";
}

function refusalText(problem) {
  if (isRemoval(problem)) return words.youAreKicked;
  return problem.error === "room_closed" ? words.closed : words.refused(explain(problem));
}

// A moderator has removed the person, now or before the join.
function isRemoval({ error, retry_after }) {
  return error === "kicked" || (error === "access_denied" && Boolean(retry_after));
}

// hasReturned: the client has joined again, so new messages were missed.
function drawRoom(room, hasReturned = false) {
  if (room !== current) {
    drawSide();
    return;
  }
  noteUnread(hasReturned);
  drawMessages(room);
  announce(room);
  if (isReading()) chat.read(room);
  drawLatest();
  drawTyping();
  drawTitle();
  drawSide();
}

function drawMessages(room) {
  const scroll = $$("scroll");
  const toBottom = scroll.scrollHeight - scroll.scrollTop;
  const isPrepended = room.oldest < drawn.oldest;
  list.show(room, marker);
  $$("empty").hidden = !room.isJoined || room.messages.length + room.pending.length > 0;
  $$("earlier").hidden = !room.hasMore;
  if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
  else if (isPrepended) scroll.scrollTop = scroll.scrollHeight - toBottom;
  drawn.oldest = room.oldest;
}

// Give the new message of another person to screen readers.
function announce(room) {
  const last = room.messages[room.messages.length - 1];
  const isNew = drawn.offset && last && last.offset > drawn.offset;
  if (isNew && last.from.subject !== room.self && last.text !== undefined) {
    $$("announcement").textContent = `${nameOf(last.from)}: ${last.text}`;
  }
  if (room.isJoined) drawn.offset = room.offset;
}

// The line "new messages" is above the first message that arrived while nothing was read.
function noteUnread(hasReturned) {
  const isNew = current.unread > 0 && (marker === null || marker < current.readTo);
  if (isNew && (hasReturned || !isReading())) marker = current.readTo;
}

function isReading() {
  return isAtEnd && document.visibilityState === "visible" && current.isJoined;
}

function drawLatest() {
  const { unread } = current;
  $$("latest").hidden = isAtEnd;
  $$("latest").textContent = `${unread ? words.toUnread(unread) : words.toEnd} ↓`;
}

function drawTyping() {
  const names = current.typists.map((one) => nameOf(current.members.get(one) || { subject: one }));
  if (names.length > NAMES_SHOWN) $$("typing").textContent = words.manyTyping;
  else $$("typing").textContent = names.length ? words.typing(names) : "";
}

function titleOf(room) {
  return room.to ? nameOf({ subject: room.to, name: room.title }) : lobbyTitle;
}

function drawTitle() {
  $$("title").textContent = titleOf(current);
  $$("presence").textContent = current.isJoined ? presenceOf(current) : "";
}

function presenceOf(room) {
  if (!room.to) return words.online(room.online);
  const peer = room.members.get(room.to);
  return peer && peer.online ? words.peerOnline : words.peerOffline;
}

function drawSide() {
  const rooms = [lobby, ...conversations()];
  reconcile($$("rooms"), rooms.map(roomItem));
  reconcile($$("members"), [...lobby.members.values()].sort(byPresence).map(memberItem));
  const others = rooms.filter((room) => room !== current);
  const unread = others.reduce((sum, room) => sum + room.unread, 0);
  $$("all-unread").hidden = !unread;
  $$("all-unread").textContent = unread;
  $$("all-unread").setAttribute("aria-label", words.unreadOf(unread));
  document.title = (unread + current.unread ? `(${unread + current.unread}) ` : "") + lobbyTitle;
}

// The conversations that the broker lists, and a new one that is open.
function conversations() {
  const listed = chat.conversations.map((one) => chat.conversation(one.with.subject));
  return !current.to || listed.includes(current) ? listed : [current, ...listed];
}

function roomItem(room) {
  const { unread } = room;
  const isOpen = room === current;
  const make = () => {
    const parts = [element("bdi", { className: "name", textContent: titleOf(room) })];
    if (unread && !isOpen) {
      const count = element("span", { className: "count", textContent: unread });
      count.setAttribute("aria-label", words.unreadOf(unread));
      parts.push(count);
    }
    const made = element("button", { type: "button", onclick: () => show(room) }, ...parts);
    if (isOpen) made.setAttribute("aria-current", "true");
    return element("li", {}, made);
  };
  const version = JSON.stringify([unread, isOpen, titleOf(room)]);
  return { key: room.to || `#${room.name}`, version, make };
}

function byPresence(one, other) {
  return other.online - one.online || nameOf(one).localeCompare(nameOf(other));
}

function memberItem(member) {
  const isSelf = member.subject === lobby.self;
  const mayModerate = lobby.may.includes("moderate") && !isSelf;
  const make = () => {
    const state = member.online ? words.isOnline : words.isOffline;
    const dot = element("span", { className: `dot ${member.online ? "on" : "off"}`, role: "img", title: state });
    dot.setAttribute("aria-label", state);
    const label = element("span", { className: "who" }, ...personParts(member));
    if (isSelf) return element("li", { className: "self" }, dot, label, element("span", { className: "tag", textContent: words.you }));
    const name = nameOf(member);
    const open = element("button", { type: "button", title: words.talkTo(name), onclick: () => talkTo(member) }, dot, label);
    const acts = !mayModerate ? [] : [element("span", { className: "acts" },
      button(words.mute, words.muteOf(name), () => restrict("mute", member)),
      button(words.kick, words.kickOf(name), () => restrict("kick", member)))];
    return element("li", {}, open, ...acts);
  };
  const { name, nickname, online } = member;
  return { key: member.subject, version: JSON.stringify([name, nickname, online, mayModerate, isSelf]), make };
}

// Acts

// Open a room. The previous conversation is left: its messages are counted, and read later.
function show(room) {
  openSide(false);
  if (room === current) return;
  if (current.to) chat.leave(current);
  current.draft = $$("text").value;
  current = room;
  Object.assign($$("text"), { value: room.draft || "" });
  fitText();
  marker = room.to && room.unseen ? room.readTo : null;
  isAtEnd = true;
  $$("notice").textContent = "";
  $$("messages").replaceChildren();
  drawn = { oldest: 0, offset: 0 };
  chat.join(room);
  drawRoom(room);
  drawStatus();
  $$("text").focus({ preventScroll: true });
}

function talkTo(member) {
  const room = chat.conversation(member.subject);
  room.title = member.name;
  show(room);
}

async function restrict(act, member) {
  const done = await attempt(chat[act](lobby, member.subject, RESTRICTION_SECONDS));
  if (done) $$("notice").textContent = words[act === "mute" ? "muted" : "kicked"](nameOf(member));
}

// Show the failure of an act. Resolves with whether the act succeeded.
async function attempt(act) {
  $$("notice").textContent = "";
  try {
    await act;
    return true;
  } catch (failure) {
    $$("notice").textContent = words.problem(explain(failure));
    return false;
  }
}

async function loadEarlier() {
  if (current.isLoading || !current.hasMore) return;
  const room = current;
  isAtEnd = false;
  $$("earlier").textContent = words.loading;
  await attempt(chat.history(room));
  $$("earlier").textContent = words.earlier;
}

function sendText() {
  const text = $$("text").value.trim();
  if (!text) return;
  $$("text").value = "";
  fitText();
  isAtEnd = true;
  marker = null;
  chat.typing(current, false);
  chat.send(current, { text });
}

// Make the field as high as its text.
function fitText() {
  const field = $$("text");
  field.style.height = "auto";
  const border = field.offsetHeight - field.clientHeight;
  field.style.height = `${Math.min(field.scrollHeight + border, FIELD_MAX_PX)}px`;
}

function openSide(isOpen) {
  $$("chat").classList.toggle("side-open", isOpen);
  $$("open-side").setAttribute("aria-expanded", String(isOpen));
}

$$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  sendText();
});
$$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  sendText();
});
$$("text").addEventListener("input", () => {
  fitText();
  chat.typing(current, $$("text").value !== "");
});
$$("scroll").addEventListener("scroll", () => {
  const { scrollTop, scrollHeight, clientHeight } = $$("scroll");
  isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
  if (scrollTop < NEAR_PX && scrollHeight > clientHeight) loadEarlier();
  if (isReading() && current.unread) chat.read(current);
  drawLatest();
});
$$("earlier").addEventListener("click", loadEarlier);
$$("latest").addEventListener("click", () => {
  $$("scroll").scrollTop = $$("scroll").scrollHeight;
  $$("text").focus();
});
$$("open-side").addEventListener("click", () => {
  openSide(true);
  $$("close-side").focus();
});
$$("close-side").addEventListener("click", () => {
  openSide(false);
  $$("open-side").focus();
});
$$("side").addEventListener("keydown", (event) => {
  if (event.key === "Escape") $$("close-side").click();
});
$$("nickname").value = chat.nickname;
$$("me").addEventListener("submit", (event) => {
  event.preventDefault();
  store({ nickname: $$("nickname").value.trim() });
  chat.rename(stored.nickname);
});
for (const form of [$$("sign-out"), $$("again")]) {
  form.addEventListener("submit", () => sessionStorage.removeItem(storageKey));
}
new ResizeObserver(() => {
  if (isAtEnd) $$("scroll").scrollTop = $$("scroll").scrollHeight;
}).observe($$("scroll"));
document.addEventListener("visibilitychange", () => drawRoom(current));
