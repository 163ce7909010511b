// The texts that the scripts of the page show, in both languages.

const WORDS = {
  en: {
    connecting: "Connecting…",
    offline: "Connection lost, reconnecting…",
    ended: "You have to sign in again.",
    refused: (why) => `The chat is not available: ${why}`,
    online: (count) => `${count} online`,
    peerOnline: "Online",
    peerOffline: "Offline",
    earlier: "Load earlier messages",
    loading: "Loading…",
    empty: "No messages yet. Say hello.",
    unread: "New messages",
    toUnread: (count) => (count === 1 ? "1 new message" : `${count} new messages`),
    toEnd: "To the latest message",
    unreadOf: (count) => `${count} unread`,
    typing: (names) => (names.length === 1 ? `${names[0]} is typing…` : `${names.join(", ")} are typing…`),
    manyTyping: "Several people are typing…",
    today: "Today",
    yesterday: "Yesterday",
    you: "you",
    unverified: "unverified",
    nickname: (text) => `“${text}”`,
    deleted: "Message deleted",
    data: "This message has no text.",
    delete: "Delete",
    deleteOf: (time) => `Delete the message of ${time}`,
    sending: "Sending…",
    failed: (why) => `Not sent: ${why}`,
    again: "Send again",
    discard: "Discard",
    seen: "Read",
    mute: "Mute",
    muteOf: (name) => `Mute ${name} for 10 minutes`,
    muted: (name) => `${name} cannot write for 10 minutes.`,
    kick: "Remove",
    kickOf: (name) => `Remove ${name} for 10 minutes`,
    kicked: (name) => `${name} was removed for 10 minutes.`,
    talkTo: (name) => `Write to ${name}`,
    isOnline: "online",
    isOffline: "offline",
    youAreMuted: (minutes) => `A moderator has muted you. You can write again in ${minutes} min.`,
    youAreKicked: "A moderator has removed you from this room.",
    closed: "The chat is closed.",
    problem: (why) => `Not possible: ${why}`,
  },
  zh: {
    connecting: "正在连接…",
    offline: "连接已断开，正在重新连接…",
    ended: "请重新登录。",
    refused: (why) => `聊天室不可用：${why}`,
    online: (count) => `${count} 人在线`,
    peerOnline: "在线",
    peerOffline: "离线",
    earlier: "加载更早的消息",
    loading: "正在加载…",
    empty: "还没有消息，打个招呼吧。",
    unread: "新消息",
    toUnread: (count) => `${count} 条新消息`,
    toEnd: "回到最新消息",
    unreadOf: (count) => `${count} 条未读`,
    typing: (names) => `${names.join("、")} 正在输入…`,
    manyTyping: "多人正在输入…",
    today: "今天",
    yesterday: "昨天",
    you: "你",
    unverified: "未验证",
    nickname: (text) => `“${text}”`,
    deleted: "消息已删除",
    data: "这条消息没有文字。",
    delete: "删除",
    deleteOf: (time) => `删除 ${time} 的消息`,
    sending: "正在发送…",
    failed: (why) => `发送失败：${why}`,
    again: "重新发送",
    discard: "放弃",
    seen: "已读",
    mute: "禁言",
    muteOf: (name) => `将 ${name} 禁言 10 分钟`,
    muted: (name) => `${name} 已被禁言 10 分钟。`,
    kick: "移出",
    kickOf: (name) => `将 ${name} 移出 10 分钟`,
    kicked: (name) => `${name} 已被移出 10 分钟。`,
    talkTo: (name) => `给 ${name} 发消息`,
    isOnline: "在线",
    isOffline: "离线",
    youAreMuted: (minutes) => `管理员已将你禁言，${minutes} 分钟后可以发言。`,
    youAreKicked: "管理员已将你移出聊天室。",
    closed: "聊天室已关闭。",
    problem: (why) => `操作失败：${why}`,
  },
};

export const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
export const words = WORDS[language];

// The texts of error words, and of all others.
const ERRORS = {
  en: {
    rate_limited: "too many messages; wait a moment",
    temporarily_unavailable: "the chat is temporarily unavailable",
    unreachable: "no connection",
    access_denied: "you are not allowed to do this",
    other: "something went wrong",
  },
  zh: {
    rate_limited: "消息太多，请稍候",
    temporarily_unavailable: "聊天室暂时不可用",
    unreachable: "没有连接",
    access_denied: "没有权限",
    other: "出现错误",
  },
};

const warned = new WeakSet(); // the page explains a problem each time it is drawn

// The text of a problem for the person. Its description is for developers, and goes to the console.
export function explain(problem) {
  if (!warned.has(problem)) warn(problem);
  warned.add(problem);
  return ERRORS[language][problem.error] || ERRORS[language].other;
}

function warn({ error, error_description, message }) {
  console.warn(`chat: ${[error, error_description || message].filter(Boolean).join(": ")}`);
}
