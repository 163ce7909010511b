// The texts of the pages in both languages, with those of the confirm view.

const { WORDS: CONFIRM_WORDS, language, speaker } = require("./scan-login/confirm/words");

const PAGE_WORDS = {
  en: {
    title: "Scan to sign in",

    homeTitle: "Sign in on a computer",
    homeText: "A website shows a code. Scan the code, check the sign-in request, then confirm.",
    scanCode: "Scan a code",

    signIns: "Your sign-ins",
    loading: "Loading…",
    noSignIns: "You are not signed in anywhere",
    noSignInsText: "The websites that you sign in to appear here.",
    lastUsed: "Last used: {time}",
    offlineAccess: "Offline access",
    offlineAccessText: "The browser has signed out, but the app still has access.",
    end: "End",
    endOf: "End the sign-in to {apps}",
    endAll: "End all",
    ending: "Ending…",

    registerTitle: "Register",
    registerText: "Copy this link and open it in a browser. After you have registered, return here and confirm.",
    copy: "Copy the link",

    game: "Rock-paper-scissors",

    chat: "San Mu chat",
    chatConnecting: "Connecting…",
    chatOffline: "Connection lost, reconnecting…",
    chatEnded: "The chat is not available: {reason}",
    chatRemoved: "A moderator has removed you from this room.",
    chatMuted: "A moderator has muted you.",
    chatOnline: "{count} online",
    chatEmpty: "No messages yet. Say hello.",
    chatEarlier: "Load earlier messages",
    chatNew: "New messages",
    chatTyping: "{names} is typing…",
    chatPeople: "People",
    chatBack: "Back to the messages",
    chatConversations: "Conversations",
    chatMembers: "Members",
    chatUnverified: "unverified",
    chatYou: "you",
    chatIsOnline: "online",
    chatIsOffline: "offline",
    chatWrite: "Write",
    chatMute: "Mute",
    chatKick: "Remove",
    chatMessage: "Message",
    chatSend: "Send",
    chatSending: "Sending…",
    chatFailed: "Not sent",
    chatDelete: "Delete",
    chatDeleted: "Message deleted",
    chatImpossible: "Not possible",
  },

  zh: {
    title: "扫码登录",

    homeTitle: "在电脑上登录",
    homeText: "网站会显示一个登录码。扫描登录码，核对登录请求，然后确认。",
    scanCode: "扫一扫",

    signIns: "你的登录",
    loading: "正在加载…",
    noSignIns: "你没有登录任何网站",
    noSignInsText: "你登录的网站会显示在这里。",
    lastUsed: "上次使用：{time}",
    offlineAccess: "离线访问",
    offlineAccessText: "浏览器已退出登录，但应用仍可访问。",
    end: "结束",
    endOf: "结束 {apps} 的登录",
    endAll: "全部结束",
    ending: "正在结束…",

    registerTitle: "注册",
    registerText: "复制链接并在浏览器中打开。注册后返回这里确认。",
    copy: "复制链接",

    game: "剪刀石头布",

    chat: "三木聊天室",
    chatConnecting: "正在连接…",
    chatOffline: "连接已断开，正在重新连接…",
    chatEnded: "聊天室不可用：{reason}",
    chatRemoved: "管理员已将你移出聊天室。",
    chatMuted: "管理员已将你禁言。",
    chatOnline: "{count} 人在线",
    chatEmpty: "还没有消息，打个招呼吧。",
    chatEarlier: "加载更早的消息",
    chatNew: "新消息",
    chatTyping: "{names} 正在输入…",
    chatPeople: "成员",
    chatBack: "返回消息",
    chatConversations: "会话",
    chatMembers: "成员",
    chatUnverified: "未验证",
    chatYou: "你",
    chatIsOnline: "在线",
    chatIsOffline: "离线",
    chatWrite: "发消息",
    chatMute: "禁言",
    chatKick: "移出",
    chatMessage: "消息内容",
    chatSend: "发送",
    chatSending: "正在发送…",
    chatFailed: "发送失败",
    chatDelete: "删除",
    chatDeleted: "消息已删除",
    chatImpossible: "操作失败",
  },
};

const WORDS = {
  en: Object.assign({}, CONFIRM_WORDS.en, PAGE_WORDS.en),
  zh: Object.assign({}, CONFIRM_WORDS.zh, PAGE_WORDS.zh),
};

module.exports = Object.assign({ WORDS, language }, speaker(WORDS));
