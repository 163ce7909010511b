// Every word that the pages show, in both languages.  {braces} are filled in by `say`.

const WORDS = {
  en: {
    title: "Sign in by scan",

    homeTitle: "Sign in on a computer",
    homeText: "The website shows a code. Scan it, look at what it asks for, then confirm.",
    scanCode: "Scan a code",
    notACode: "That is not a sign-in code",

    scanning: "Looking at the code…",
    confirming: "Confirming…",
    denying: "Denying…",

    confirmTitle: "Sign in to {site}?",
    confirmText: "The browser below will be signed in as you.",
    site: "Website",
    browser: "Browser",
    browserOn: "{program} on {system}",
    from: "From",
    since: "Since",
    justNow: "just now",
    secondsAgo: "{count} s ago",
    minutesAgo: "{count} min ago",
    unknown: "Unknown",
    warning: "Only confirm if the browser shown here is your own.",
    warningWhy: "Otherwise somebody else is signed in as you.",
    left: "The code runs out in {time}",
    confirm: "Confirm",
    deny: "Deny",

    confirmedTitle: "Confirmed",
    confirmedText: "The browser is now signed in to {site}.",
    deniedTitle: "Denied",
    deniedText: "The browser is not signed in. If you did not open that page, somebody may have tried to sign in as you.",
    expiredTitle: "The code ran out",
    expiredText: "Nothing was confirmed. Get a fresh code on the website and scan that.",
    takenTitle: "Another phone was first",
    takenText: "Somebody else has scanned this code. Get a fresh one on the website.",
    unknownTitle: "Unknown code",
    unknownText: "No website is waiting with this code. It may be too old: get a fresh one and scan that.",
    unregisteredTitle: "Not registered yet",
    unregisteredText: "{site} does not know you. Register there, then confirm: the same sign-in goes on.",
    blockedTitle: "Not allowed",
    blockedText: "{site} does not let you sign in. Please ask the people who run it.",
    overTitle: "This sign-in is over",
    overText: "It was confirmed, denied or given up before. Get a fresh code on the website.",
    limitedTitle: "Too many tries",
    limitedText: "Wait a moment, then try again.",
    busyTitle: "Busy right now",
    busyText: "The sign-in service cannot answer just now. Nothing is lost: try again.",
    offlineTitle: "No connection",
    offlineText: "Check the network, then try again. Nothing is lost.",
    failedTitle: "That did not work",
    failedText: "Try again, or scan a fresh code.",

    register: "Register",
    again: "Try again",
    againRegistered: "I have registered: confirm",
    againIn: "Try again in {time}",
    another: "Scan another code",
    done: "Done",

    registerTitle: "Register",
    registerText: "Copy this link and open it in a browser. When you have registered, come back here and confirm.",
    copy: "Copy the link",
  },

  zh: {
    title: "扫码登录",

    homeTitle: "在电脑上登录",
    homeText: "网站会显示一个登录码。扫码后看清它请求什么，再确认。",
    scanCode: "扫一扫",
    notACode: "这不是登录码",

    scanning: "正在识别登录码…",
    confirming: "正在确认…",
    denying: "正在拒绝…",

    confirmTitle: "登录 {site}？",
    confirmText: "下面的浏览器将以你的身份登录。",
    site: "网站",
    browser: "浏览器",
    browserOn: "{system} 上的 {program}",
    from: "来自",
    since: "时间",
    justNow: "刚刚",
    secondsAgo: "{count} 秒前",
    minutesAgo: "{count} 分钟前",
    unknown: "未知",
    warning: "只有这是你自己的浏览器，才能确认。",
    warningWhy: "否则别人会以你的身份登录。",
    left: "登录码将在 {time} 后失效",
    confirm: "确认",
    deny: "拒绝",

    confirmedTitle: "已确认",
    confirmedText: "浏览器已登录 {site}。",
    deniedTitle: "已拒绝",
    deniedText: "浏览器没有登录。如果那个页面不是你打开的，可能有人想冒用你的身份。",
    expiredTitle: "登录码已失效",
    expiredText: "没有确认任何登录。请在网站上刷新登录码，再扫一次。",
    takenTitle: "已被另一部手机扫过",
    takenText: "别人先扫了这个登录码。请在网站上刷新一个。",
    unknownTitle: "找不到这个登录码",
    unknownText: "没有网站在等这个登录码，它可能太旧了。请刷新后再扫。",
    unregisteredTitle: "还没有注册",
    unregisteredText: "{site} 还不认识你。注册之后再确认，可以接着登录。",
    blockedTitle: "不允许登录",
    blockedText: "{site} 不允许你登录。请联系网站管理员。",
    overTitle: "这次登录已经结束",
    overText: "它之前已被确认、拒绝或放弃。请在网站上刷新登录码。",
    limitedTitle: "操作太频繁",
    limitedText: "请稍等片刻再试。",
    busyTitle: "当前访问较多",
    busyText: "登录服务暂时无法回应，登录还在，请重试。",
    offlineTitle: "网络不通",
    offlineText: "请检查网络后重试，登录还在。",
    failedTitle: "没有成功",
    failedText: "请重试，或者扫一个新的登录码。",

    register: "去注册",
    again: "重试",
    againRegistered: "已注册，确认登录",
    againIn: "{time} 后可重试",
    another: "扫另一个登录码",
    done: "完成",

    registerTitle: "注册",
    registerText: "复制链接，在浏览器里打开。注册之后回到这里确认。",
    copy: "复制链接",
  },
};

// WeChat's own language; getSystemInfoSync is the older way to ask for it.
function language() {
  const { language } = wx.getAppBaseInfo ? wx.getAppBaseInfo() : wx.getSystemInfoSync();
  return language.startsWith("zh") ? "zh" : "en";
}

function say(key, values = {}) {
  return WORDS[language()][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// The words of several keys, as a page's data.
function sayAll(...keys) {
  return Object.assign({}, ...keys.map((key) => ({ [key]: say(key) })));
}

module.exports = { WORDS, say, sayAll };
