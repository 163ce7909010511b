// The list of messages. All texts are set with textContent, so markup in them is shown as text.

import { explain, language, words } from "./words.js";

const FOLLOW_SECONDS = 300; // a message this soon after one of the same person has no second heading
const DELETE_SECONDS = 115; // the broker allows 120

const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(language, { dateStyle: "full" });

export function element(tag, fields = {}, ...children) {
  const made = Object.assign(document.createElement(tag), fields);
  made.append(...children);
  return made;
}

// The name that the login verified; otherwise the subject.
export function nameOf({ subject, name }) {
  return name || subject.slice(subject.indexOf(":") + 1);
}

// A person: the verified name, the subject, and the nickname as unverified.
export function personParts(person) {
  const name = nameOf(person);
  const parts = [element("bdi", { className: "name", textContent: name })];
  if (person.nickname) {
    parts.push(
      element("bdi", { className: "nickname", textContent: words.nickname(person.nickname) }),
      element("span", { className: "tag", textContent: words.unverified }),
    );
  }
  parts.push(element("bdi", { className: "subject", textContent: person.subject }));
  return parts;
}

// Make `list` show `items`, each {key, make, version}. Unchanged elements stay, so that a screen
// reader announces only new ones and the focus is not lost.
export function reconcile(list, items) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach(({ key, make, version }, index) => {
    let child = known.get(key);
    if (!child || child.dataset.version !== version) {
      const fresh = make();
      Object.assign(fresh.dataset, { key, version });
      if (child) child.replaceWith(fresh);
      child = fresh;
    }
    known.delete(key);
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] || null);
  });
  for (const child of known.values()) child.remove();
}

export class MessageList {
  // act: {delete(message), repeat(message), discard(message)}
  constructor(list, act) {
    Object.assign(this, { list, act });
  }

  // marker: the offset after which the line "new messages" is shown, or null
  show(room, marker) {
    reconcile(this.list, [...this._stored(room, marker), ...this._pending(room)]);
  }

  _stored(room, marker) {
    const items = [];
    let previous = null;
    for (const message of room.messages) {
      const day = dayOf(message.at);
      const isNewDay = !previous || day !== dayOf(previous.at);
      const isFirstNew = marker !== null && message.offset > marker
        && (!previous || previous.offset <= marker);
      if (isNewDay) items.push(line(`day ${day}`, "day", dayName(message.at)));
      if (isFirstNew) items.push(line("unread", "unread", words.unread));
      const follows = !isNewDay && !isFirstNew && isSoon(previous, message);
      items.push(this._message(room, message, follows));
      previous = message;
    }
    return items;
  }

  _message(room, message, follows) {
    const { id, from, at, text, isDeleted } = message;
    const isOwn = from.subject === room.self;
    const isLast = message === room.messages[room.messages.length - 1];
    const mayDelete = !isDeleted && room.isJoined
      && (room.may.includes("moderate") || (isOwn && Date.now() / 1000 - at < DELETE_SECONDS));
    const isSeen = isOwn && isLast && room.to && room.peerSeen >= message.offset;
    const version = JSON.stringify([isOwn, isDeleted, mayDelete, isSeen, follows]);
    const time = clock.format(at * 1000);
    const make = () => {
      const body = isDeleted ? words.deleted : (text === undefined ? words.data : text);
      const parts = [
        element("p", { className: "text", textContent: body, dir: "auto" }),
        element("p", { className: "meta" },
          element("time", { dateTime: new Date(at * 1000).toISOString(), textContent: time }),
          ...(isSeen ? [element("span", { textContent: words.seen })] : []),
          ...(mayDelete ? [button(words.delete, words.deleteOf(time), () => this.act.delete(message))] : [])),
      ];
      if (!follows) parts.unshift(element("p", { className: "from" }, ...personParts(from)));
      const classes = ["message", isOwn && "own", isDeleted && "deleted", follows && "follows"];
      return element("li", { className: classes.filter(Boolean).join(" ") }, ...parts);
    };
    return { key: `${from.subject} ${id}`, version, make };
  }

  _pending(room) {
    return room.pending.map((message) => {
      const { id, text, state, error } = message;
      const make = () => {
        const meta = state !== "failed" ? [words.sending] : [
          element("span", { className: "failure", textContent: words.failed(explain(error)) }),
          button(words.again, "", () => this.act.repeat(message)),
          button(words.discard, "", () => this.act.discard(message)),
        ];
        return element("li", { className: `message own pending ${state}` },
          element("p", { className: "text", textContent: text, dir: "auto" }),
          element("p", { className: "meta" }, ...meta));
      };
      return { key: `${room.self} ${id}`, version: state, make };
    });
  }
}

export function button(label, description, act) {
  const made = element("button", { type: "button", className: "link", textContent: label, onclick: act });
  if (description) made.setAttribute("aria-label", description);
  return made;
}

function line(key, className, text) {
  const make = () => element("li", { className }, element("span", { textContent: text }));
  return { key, version: text, make };
}

function isSoon(previous, message) {
  return previous !== null && previous.from.subject === message.from.subject
    && previous.from.nickname === message.from.nickname
    && message.at - previous.at < FOLLOW_SECONDS;
}

function dayOf(at) {
  return new Date(at * 1000).toDateString();
}

function dayName(at) {
  const day = dayOf(at);
  if (day === dayOf(Date.now() / 1000)) return words.today;
  if (day === dayOf(Date.now() / 1000 - 86_400)) return words.yesterday;
  return date.format(at * 1000);
}
