// The items of the chat page: rooms, messages and people.

const { formatTime } = require("../../scan-login/confirm/formats");
const { say } = require("../../words");

const DELETE_SECONDS = 115; // the broker allows 120

// The verified name; otherwise the subject.
function nameOf({ subject, name }) {
  return name || subject.slice(subject.indexOf(":") + 1);
}

// The messages of a room. marker: the offset after which the line "new messages" is, or null.
function messageItems(room, marker) {
  let isAfterMarker = false;
  const stored = room.messages.map((message) => {
    const isNew = marker !== null && message.offset > marker && !isAfterMarker;
    isAfterMarker = isAfterMarker || isNew;
    return messageItem(room, message, isNew);
  });
  return [...stored, ...room.pending.map(pendingItem)];
}

function messageItem(room, { id, offset, from, at, text, isDeleted }, isNew) {
  const isOwn = from.subject === room.self;
  const isRecent = Date.now() / 1000 - at < DELETE_SECONDS;
  return {
    key: `m${offset}`,
    id,
    offset,
    isNew,
    isOwn,
    isDeleted: Boolean(isDeleted),
    name: nameOf(from),
    subject: from.subject,
    nickname: from.nickname || "",
    text: isDeleted ? say("chatDeleted") : text || "",
    note: formatTime(new Date(at * 1000)).slice(0, -3),
    mayDelete: !isDeleted && (room.may.includes("moderate") || (isOwn && isRecent)),
  };
}

function pendingItem({ id, text, state }) {
  const note = say(state === "failed" ? "chatFailed" : "chatSending");
  return { key: `p${id}`, id, isOwn: true, isPending: true, text, note };
}

function roomItem(room, current) {
  const title = room.to ? nameOf({ subject: room.to, name: room.title }) : say("chat");
  const isOpen = room === current;
  return { to: room.to || "", title, isOpen, unread: isOpen ? 0 : room.unread };
}

function memberItem(room, { subject, name, nickname = "", online }) {
  const isSelf = subject === room.self;
  const presence = say(online ? "chatIsOnline" : "chatIsOffline");
  const mayModerate = room.may.includes("moderate") && !isSelf;
  return { subject, name: nameOf({ subject, name }), nickname, online, presence, isSelf, mayModerate };
}

module.exports = { memberItem, messageItems, nameOf, roomItem };
