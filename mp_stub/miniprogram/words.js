// The texts of all pages in both languages. `say` replaces {placeholders}.

const WORDS = {
  en: {
    title: "Scan to sign in",

    homeTitle: "Sign in on a computer",
    homeText: "A website shows a code. Scan the code, check the sign-in request, then confirm.",
    scanCode: "Scan a code",
    notACode: "This is not a sign-in code",

    scanning: "Reading the code…",
    confirming: "Confirming…",
    denying: "Denying…",

    confirmTitle: "Sign in to {site}?",
    confirmText: "The browser below will be signed in as you.",
    site: "Website",
    scopes: "Shares",
    scope_openid: "your user ID",
    scope_profile: "your name and profile",
    scope_email: "your e-mail address",
    scope_phone: "your phone number",
    scope_groups: "the groups you belong to",
    scope_offline_access: "access until you end it",
    comma: ", ",
    known: "used before",
    notKnown: "not used before",
    browser: "Browser",
    browserOn: "{program} on {system}",
    from: "From",
    since: "Since",
    justNow: "just now",
    secondsAgo: "{count} s ago",
    minutesAgo: "{count} min ago",
    unknown: "Unknown",
    warning: "Only confirm if the browser shown here is your own.",
    warningWhy: "Otherwise another person is signed in as you.",
    left: "The code expires in {time}",
    address: "Address",
    choose: "Which number does the browser show?",
    digitsTitle: "Type these digits in the browser",
    digitsText: "Type them only at {origin}. If that page is not on a screen in front of you, close this page.",
    confirm: "Confirm",
    deny: "Deny",

    confirmedTitle: "Confirmed",
    confirmedText: "The browser is now signed in to {site}.",
    deniedTitle: "Denied",
    deniedText: "The browser is not signed in. If you did not open that page, another person may have tried to sign in as you.",
    expiredTitle: "The code has expired",
    expiredText: "The sign-in was not confirmed. Get a new code on the website and scan it.",
    takenTitle: "Scanned by another phone",
    takenText: "Another phone has scanned this code. Get a new code on the website.",
    unknownTitle: "Unknown code",
    unknownText: "No website is waiting for this code. The code may be too old. Get a new code and scan it.",
    unregisteredTitle: "Not registered yet",
    unregisteredText: "{site} does not know you. Register there, then confirm. The sign-in continues.",
    blockedTitle: "Not allowed",
    blockedText: "{site} does not allow you to sign in. Please contact the site's administrator.",
    mismatchTitle: "Not signed in",
    mismatchText: "The number was wrong, or {site} does not allow you to sign in. Get a new code on the website.",
    overTitle: "This sign-in has ended",
    overText: "It was already confirmed, denied or cancelled. Get a new code on the website.",
    limitedTitle: "Too many attempts",
    limitedText: "Wait a moment, then try again.",
    busyTitle: "Temporarily unavailable",
    busyText: "The sign-in service is temporarily unavailable. You can safely try again.",
    offlineTitle: "No connection",
    offlineText: "Check the network. You can safely try again.",
    failedTitle: "Something went wrong",
    failedText: "Try again, or scan a new code.",

    register: "Register",
    again: "Try again",
    againRegistered: "I have registered. Confirm",
    againIn: "Try again in {time}",
    another: "Scan another code",
    done: "Done",

    registerTitle: "Register",
    registerText: "Copy this link and open it in a browser. After you have registered, return here and confirm.",
    copy: "Copy the link",
  },

  zh: {
    title: "扫码登录",

    homeTitle: "在电脑上登录",
    homeText: "网站会显示一个登录码。扫描登录码，核对登录请求，然后确认。",
    scanCode: "扫一扫",
    notACode: "这不是登录码",

    scanning: "正在识别登录码…",
    confirming: "正在确认…",
    denying: "正在拒绝…",

    confirmTitle: "登录 {site}？",
    confirmText: "下面的浏览器将以你的身份登录。",
    site: "网站",
    scopes: "提供",
    scope_openid: "用户标识",
    scope_profile: "姓名和个人资料",
    scope_email: "电子邮箱",
    scope_phone: "手机号码",
    scope_groups: "所属用户组",
    scope_offline_access: "持续访问，直到取消为止",
    comma: "、",
    known: "以前用过",
    notKnown: "以前没有用过",
    browser: "浏览器",
    browserOn: "{system} 上的 {program}",
    from: "来自",
    since: "时间",
    justNow: "刚刚",
    secondsAgo: "{count} 秒前",
    minutesAgo: "{count} 分钟前",
    unknown: "未知",
    warning: "仅当这是你自己的浏览器时才确认。",
    warningWhy: "否则别人会以你的身份登录。",
    left: "登录码将在 {time} 后失效",
    address: "网址",
    choose: "浏览器显示的是哪个数字？",
    digitsTitle: "请在浏览器中输入这些数字",
    digitsText: "只在 {origin} 输入。如果这个网页不在你面前的屏幕上，请关闭本页。",
    confirm: "确认",
    deny: "拒绝",

    confirmedTitle: "已确认",
    confirmedText: "浏览器已登录 {site}。",
    deniedTitle: "已拒绝",
    deniedText: "浏览器没有登录。如果那个页面不是你打开的，可能有人想冒用你的身份。",
    expiredTitle: "登录码已失效",
    expiredText: "登录未确认。请在网站上刷新登录码，然后重新扫描。",
    takenTitle: "已被另一部手机扫描",
    takenText: "另一部手机已扫描这个登录码。请在网站上刷新登录码。",
    unknownTitle: "未知的登录码",
    unknownText: "没有网站正在使用这个登录码，登录码可能已过期。请刷新后重新扫描。",
    unregisteredTitle: "尚未注册",
    unregisteredText: "{site} 没有你的账号。请先注册，然后确认，登录会继续。",
    blockedTitle: "不允许登录",
    blockedText: "{site} 不允许你登录。请联系网站管理员。",
    mismatchTitle: "未登录",
    mismatchText: "数字不正确，或者 {site} 不允许你登录。请在网站上刷新登录码。",
    overTitle: "本次登录已结束",
    overText: "本次登录已被确认、拒绝或取消。请在网站上刷新登录码。",
    limitedTitle: "操作太频繁",
    limitedText: "请稍等片刻再试。",
    busyTitle: "暂时无法使用",
    busyText: "登录服务暂时不可用。可以放心重试。",
    offlineTitle: "网络连接失败",
    offlineText: "请检查网络。可以放心重试。",
    failedTitle: "操作失败",
    failedText: "请重试，或者扫描新的登录码。",

    register: "去注册",
    again: "重试",
    againRegistered: "已注册，确认登录",
    againIn: "{time} 后可重试",
    another: "扫描另一个登录码",
    done: "完成",

    registerTitle: "注册",
    registerText: "复制链接并在浏览器中打开。注册后返回这里确认。",
    copy: "复制链接",
  },
};

// The language of WeChat. Older versions of WeChat have getSystemInfoSync only.
function language() {
  const { language } = wx.getAppBaseInfo ? wx.getAppBaseInfo() : wx.getSystemInfoSync();
  return language.startsWith("zh") ? "zh" : "en";
}

function say(key, values = {}) {
  return WORDS[language()][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// The texts of several keys, for the data of a page.
function sayAll(...keys) {
  return Object.assign({}, ...keys.map((key) => ({ [key]: say(key) })));
}

module.exports = { WORDS, say, sayAll };
