/**
 * <scan-login>: shows a code, waits for the phone and gives the page a signed token.
 *
 *     <script src="https://login.example/scan-login.js" defer></script>
 *     <scan-login broker="https://login.example" app="default"></scan-login>
 *     document.querySelector("scan-login").onlogin = async (token) => { … token.access_token … };
 *
 * Attributes: `broker` (default: the folder of this file), `app`, `lang`, `theme` (light or dark), `phone_app` (the
 * name of the app that scans), `auto_refresh` (off: an expired code is not replaced by itself),
 * `refresh_every` (seconds after which a code that no phone has scanned is replaced; off by default).
 * The property `texts` changes texts and adds languages. Slots: header, steps, other.
 * With `mode="form"`, `action` and `request` (the login page of the OpenID Connect provider), the widget gets no
 * token: after the confirm it submits `request`, `login_id` and `secret` to `action`.
 * Events prefixed `scan-login-`: begun scanned unregistered denied expired offline online error token.
 * The token goes to `onlogin(token)` and to listeners of the event `login`. Both may return a promise. The widget
 * shows "signing in" until the promise settles. `refresh()` shows a new code.
 * Colours: --scan-login-card, -ink, -muted, -line, -accent, -on-accent, -danger, -veil, -bone, -on-tone.
 * Also: --scan-login-size, -border, -radius, -padding, -font.
 *
 * The login's secret is kept in a private field and is never in an attribute, event or storage. A push
 * carries the new state only. After a lost push the widget reads the state with `resume`.
 */
(() => {
"use strict";

if (typeof HTMLElement === "undefined") return; // a server that renders pages imports the package


const ANSWER_TIMEOUT_MS = 8000; // longer than a healthy broker takes; then the connection counts as dead
const POLL_FALLBACK_DELAY = 2.5; // seconds until polling starts in parallel to a WebSocket that is not open
const BEGIN_ATTEMPTS = 3; // sockets without an answer to `begin` before the widget shows an error
const HANDLER_TIMEOUT = 30; // seconds for the page's handlers to use the token
const OFFLINE_TIMEOUT_MS = 60_000; // then a message and a button replace the spinner of a lost connection
const LATE_EXPIRY_MS = 2000; // a push `login-expired` that is later than this is missing: the widget resumes
const EARLY_EXPIRY_MS = 3000; // a push `login-expired` that is earlier than this means that the broker lost the login
const RETRY_DELAY = 5; // seconds, if the server sends no `retry_after`; also the poll interval of RFC 8628
const REFRESH_MIN = 10; // seconds; a shorter `refresh_every` would meet the broker's rate limit
const AUTO_REFRESHES = 10; // expired codes that are replaced without an action of the person
const SCRIPT_SCHEMES = new Set(["javascript:", "data:", "vbscript:", "blob:"]);
const RETRYABLE = new Set(["rate_limited", "temporarily_unavailable"]);
const CONFIGURATION_ERRORS = new Set(["invalid_client", "invalid_request"]); // a retry does not help
const SHOWN_STATES = new Set(["scanned", "unregistered", "denied", "expired"]);
const ORIGIN_ERROR = {
  error: "invalid_client",
  error_description: `origin ${location.origin} is not allowed; add it to SCAN_LOGIN_ORIGINS`,
};

/**
 * The URL of this file, or undefined. A module has no `currentScript`, and `import.meta` is a syntax error
 * in a classic script. A module that another module imports is only in the resource timeline.
 */
function findScriptURL() {
  if (document.currentScript) return document.currentScript.src;
  const scripts = [...document.scripts].map((script) => script.src);
  const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  return [...loaded, ...scripts].filter((url) => /\/scan-login(-\d[\w.]*)?\.js([?#]|$)/.test(url)).pop();
}

const SCRIPT_URL = findScriptURL();

const TEXTS = {
  "en": {
    loading: ["Getting a code…", ""],
    code: ["Scan to sign in", ""],
    steps: ["Open {phone} on your phone.", "Scan this code.", "Check what the phone shows, and confirm."],
    apps: { wechat: "WeChat" }, anyApp: "the app that you sign in with",
    phone: ["Sign in with the app", "Open {phone} and confirm. This page continues automatically."],
    open: "Open the app", camera: "Camera does not work?",
    link: "On your phone, open {uri} and type", copy: "Copy the link", copied: "Copied",
    scanner: "{name} scanned the code", other: "Not you?",
    scanned: ["Code scanned", "Confirm the sign-in on your phone."],
    unregistered: [
      "You have no account yet",
      "Register, then confirm again on your phone. This page continues automatically.",
    ],
    number: ["Choose {number} on your phone", "The sign-in then continues."],
    digits: ["Enter the digits on your phone", "Confirm on your phone. It then shows 4 digits."],
    wrong: "These digits are wrong. Tries left: {tries}",
    early: "Your phone shows no digits yet. Confirm there first.",
    confirmed: ["Confirmed", "Signing you in…"],
    done: ["You are signed in", ""],
    denied: ["Sign-in declined", "You declined the sign-in on your phone."],
    forbidden: ["Sign-in refused", "This sign-in was not allowed. Try again, or contact the site's administrator."],
    mismatch: ["Sign-in ended", "It was declined, or the number was wrong."],
    expired: ["This code has expired", "Get a new code and scan it."],
    offline: ["Connection lost", "Reconnecting…"],
    unreachable: ["No connection", "Check your network. This page keeps retrying."],
    waiting: ["Sign-in is temporarily unavailable", "This page retries automatically."],
    error: ["Something went wrong", "Please try again."],
    refused: ["Sign-in is not available on this page", "Please contact the site's administrator."],
    rejected: ["The site could not sign you in", "Please try again."],
    unhandled: ["The site did not complete the sign-in", "Please contact the site's administrator."],
    picture: ["The code could not be loaded", "Please try again."],
    again: "Try again", fresh: "New code", register: "Register", send: "Continue", field: "4 digits on your phone",
    expires: "Valid for {time}", retries: "Retry in {time}", registers: "Time left to register: {time}",
    alt: "Sign-in code. Scan it with your phone.",
  },
  "zh-CN": {
    loading: ["正在获取二维码…", ""],
    code: ["扫码登录", ""],
    steps: ["在手机上打开{phone}", "扫描二维码", "核对手机上的信息并确认"],
    apps: { wechat: "微信" }, anyApp: "用于登录的应用",
    phone: ["使用应用登录", "打开{phone}并确认，本页会自动继续"],
    open: "打开应用", camera: "摄像头无法使用？",
    link: "在手机上打开 {uri} 并输入", copy: "复制链接", copied: "已复制",
    scanner: "{name} 已扫码", other: "不是您？",
    scanned: ["扫描成功", "请在手机上确认登录"],
    unregistered: ["尚未注册", "请先注册，然后在手机上再次确认，本页会自动继续"],
    number: ["请在手机上选择 {number}", "选择后自动继续登录"],
    digits: ["请输入手机上的数字", "请先在手机上确认，手机会显示 4 位数字"],
    wrong: "数字不正确，还可尝试 {tries} 次",
    early: "手机尚未显示数字，请先在手机上确认",
    confirmed: ["已确认", "正在登录…"],
    done: ["登录成功", ""],
    denied: ["登录已拒绝", "已在手机上拒绝本次登录"],
    forbidden: ["登录未被允许", "网站拒绝了本次登录，请重试或联系网站管理员"],
    mismatch: ["登录已结束", "登录被拒绝，或者数字不正确"],
    expired: ["二维码已过期", "请刷新二维码后重新扫描"],
    offline: ["连接已断开", "正在重新连接…"],
    unreachable: ["无法连接", "请检查网络，本页会自动重试"],
    waiting: ["暂时无法登录", "本页会自动重试"],
    error: ["出现错误", "请重试"],
    refused: ["本页无法使用扫码登录", "请联系网站管理员"],
    rejected: ["网站登录失败", "请重试"],
    unhandled: ["网站未完成登录", "请联系网站管理员"],
    picture: ["二维码加载失败", "请重试"],
    again: "重试", fresh: "刷新二维码", register: "去注册", send: "继续", field: "手机上的 4 位数字",
    expires: "{time} 后过期", retries: "{time} 后重试", registers: "注册剩余时间 {time}",
    alt: "登录二维码，请使用手机扫描",
  },
};

const RING = "M12 3.5a8.5 8.5 0 1 0 .01 0z";
const PHONE = "M8.2 3.5h7.6A1.7 1.7 0 0 1 17.5 5.2v13.6a1.7 1.7 0 0 1-1.7 1.7H8.2a1.7 1.7 0 0 1-1.7-1.7V5.2a1.7 1.7 0 0 1 1.7-1.7z";
const ICONS = {
  phone: `${PHONE}M9.4 12l2 2 3.4-3.8`,
  person: "M12 4a4 4 0 1 0 .01 0zM4.5 20.2c.8-3.9 3.8-5.9 7.5-5.9s6.7 2 7.5 5.9",
  tick: "M5.5 12.6l4.3 4.3L18.8 7.6",
  cross: "M7 7l10 10M17 7L7 17",
  clock: `${RING}M12 7.5V12l3 2`,
  alert: "M12 5v9M12 18.6v.2",
  spin: "M12 3.5a8.5 8.5 0 1 1-8.5 8.5",
};

// The properties of each view besides its text. icon: an icon over the code; button: a button over the code;
// link: a link below the code; who: the person who scanned; timer: the countdown; live: the login is active; blank: the code is removed;
// match: the number or the field of the login's match over the code; busy: a request is in progress.
const VIEWS = {
  loading: { busy: true },
  code: { timer: "expires", live: true },
  scanned: { icon: "phone", timer: "expires", link: "fresh", live: true, who: true },
  number: { icon: "phone", timer: "expires", link: "fresh", live: true, blank: true, match: true, who: true },
  digits: { icon: "phone", timer: "expires", link: "fresh", live: true, blank: true, match: true, who: true },
  unregistered: { icon: "person", timer: "registers", link: "fresh", live: true, blank: true, match: true },
  confirmed: { icon: "spin", busy: true },
  done: { icon: "tick" },
  denied: { icon: "cross", tone: "danger", button: "again" },
  forbidden: { icon: "cross", tone: "danger", button: "again" },
  mismatch: { icon: "cross", tone: "danger", button: "again" },
  expired: { icon: "clock", tone: "muted", button: "fresh" },
  offline: { icon: "spin", busy: true },
  unreachable: { icon: "alert", tone: "muted", button: "again" },
  waiting: { icon: "clock", tone: "muted", timer: "retries", link: "again" },
  error: { icon: "alert", tone: "danger", button: "again" },
  refused: { icon: "alert", tone: "danger" },
  rejected: { icon: "alert", tone: "danger", button: "again" },
  unhandled: { icon: "alert", tone: "danger" },
  picture: { icon: "alert", tone: "danger", button: "again" },
};

const palette = (colours) => Object.entries(colours).map(([k, v]) => `--${k}: var(--scan-login-${k}, ${v});`).join("");
const LIGHT = palette({
  "card": "#fff", "ink": "#16191d", "muted": "#5b6570", "line": "#dfe3e8", "accent": "#0a7d45",
  "on-accent": "#fff", "danger": "#b42318", "veil": "rgba(255,255,255,.6)", "bone": "#eceff2", "on-tone": "#fff",
});
const DARK = palette({
  "card": "#1b2026", "ink": "#eceff2", "muted": "#a3adb8", "line": "#323a43", "accent": "#2fbf77",
  "on-accent": "#08130c", "danger": "#ff8a7a", "veil": "rgba(27,32,38,.6)", "bone": "#2a3139", "on-tone": "#16191d",
});
const STYLES = new CSSStyleSheet();
STYLES.replaceSync(`
  :host { display: block; ${LIGHT} color-scheme: light; }
  @media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} color-scheme: dark; } }
  :host([theme="dark"]) { ${DARK} color-scheme: dark; }
  :host([hidden]), [hidden] { display: none !important; }
  * { box-sizing: border-box; margin: 0; }
  .card { max-width: calc(var(--scan-login-size, 18rem) + 4rem); margin: 0 auto; padding: var(--scan-login-padding, 1.25rem);
    display: flex; flex-direction: column; align-items: center; text-align: center;
    background: var(--card); color: var(--ink); outline: none;
    border: var(--scan-login-border, 1px solid var(--line)); border-radius: var(--scan-login-radius, 16px);
    font: 400 .9375rem/1.5 var(--scan-login-font, system-ui, -apple-system, "Segoe UI", Roboto,
      "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif); }
  .header { display: flex; align-items: center; gap: .5rem; margin-bottom: 1rem; font-weight: 600; overflow-wrap: anywhere; }
  .logo { height: 2rem; max-width: 6rem; object-fit: contain; }
  .frame { position: relative; width: min(100%, var(--scan-login-size, 18rem)); aspect-ratio: 1; overflow: hidden;
    border: 1px solid var(--line); border-radius: 12px; background: var(--bone); }
  /* White in dark mode too: a scanner needs a quiet zone that is brighter than the code. */
  .code { display: block; width: 100%; height: 100%; object-fit: contain; background: #fff;
    opacity: 0; transition: opacity .2s; }
  .drawn .code { opacity: 1; }
  .veiled .code { filter: blur(10px); } /* no scanner reads it */
  .frame:not(.drawn)::before { content: ""; position: absolute; inset: 0; transform: translateX(-100%);
    background: linear-gradient(90deg, transparent, var(--veil), transparent); opacity: .6;
    animation: sweep 1.4s ease-in-out infinite; }
  .veil { position: absolute; inset: 0; padding: 1rem; background: var(--veil); animation: appear .2s;
    display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 1rem; }
  .badge { display: grid; place-items: center; width: 3.75rem; height: 3.75rem; border-radius: 50%;
    background: var(--accent); color: var(--on-accent); }
  .danger .badge { background: var(--danger); color: var(--on-tone); }
  .muted .badge { background: var(--muted); color: var(--on-tone); }
  .spin .badge { background: none; color: var(--accent); animation: turn 1s linear infinite; }
  svg { width: 2.25rem; height: 2.25rem; fill: none; stroke: currentColor; stroke-width: 1.8;
    stroke-linecap: round; stroke-linejoin: round; }
  .spin svg { width: 3rem; height: 3rem; }
  .number { font-size: 5rem; font-weight: 700; line-height: 1.1; letter-spacing: .06em; text-indent: .06em;
    font-variant-numeric: tabular-nums; }
  .digits { display: flex; flex-direction: column; align-items: center; gap: .75rem; }
  .digits input { width: 9rem; padding: .3em; text-align: center; font: inherit; font-size: 1.75rem; font-weight: 600;
    letter-spacing: .2em; text-indent: .2em; color: var(--ink); background: var(--card);
    border: 1px solid var(--muted); border-radius: 12px; }
  .steps { width: 100%; padding: .5rem 0 0 1.5em; text-align: start; color: var(--muted); }
  .steps li::marker { color: var(--accent); font-weight: 600; }
  .who { display: flex; align-items: center; justify-content: center; gap: .5rem; font-weight: 600; overflow-wrap: anywhere; }
  .who img { width: 2rem; height: 2rem; border-radius: 50%; object-fit: cover; }
  .panel { padding-top: .5rem; color: var(--muted); overflow-wrap: anywhere; }
  .panel strong { display: block; color: var(--ink); font-size: 1.5rem; letter-spacing: .08em; user-select: all; }
  .phone .frame { order: 1; margin-top: 1rem; } /* the button is above the code */
  .status { min-height: 2.6em; padding-top: 1rem; overflow-wrap: anywhere; text-wrap: balance; }
  .title { font-size: 1.0625rem; font-weight: 600; }
  .hint, .timer { color: var(--muted); }
  .timer { display: flex; align-items: center; gap: .4em; min-height: 1.5em; padding-top: .25rem; font-size: .875rem; font-variant-numeric: tabular-nums; }
  .timer svg { width: 1.25rem; height: 1.25rem; color: var(--accent); stroke-width: 3; transition: stroke-dashoffset 1s linear; }
  button, a { font: inherit; font-weight: 600; line-height: 1.25; border-radius: 999px; cursor: pointer; }
  .button { display: inline-block; padding: .65em 1.5em; border: 0; text-decoration: none;
    background: var(--accent); color: var(--on-accent); }
  .button:hover { filter: brightness(1.08); }
  :is(.open, .register) { margin: .5rem 0; }
  .link { margin-top: .25rem; padding: .4em .9em; border: 0; background: none; color: var(--accent); }
  .link:hover { text-decoration: underline; }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  @keyframes sweep { to { transform: translateX(100%); } }
  @keyframes turn { to { transform: rotate(1turn); } }
  @keyframes appear { from { opacity: 0; } }
  @media (prefers-reduced-motion: reduce) { *, *::before { animation: none !important; transition: none !important; } }
`);

/** A new element with the given properties and children. Text is never parsed as HTML. */
function createElement(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** An outline icon: the <svg>, and its <path>, whose `d` is set later. */
function createIcon() {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return [svg, path];
}

const isVisible = () => document.visibilityState === "visible";

/** Show `url` in the image, which hides itself if the picture cannot be loaded; without a URL hide it. */
function setImage(image, url) {
  if (url && image.src === url) return;
  image.hidden = !url;
  if (url) image.src = url;
}

const formatTime = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Seconds until the next attempt, with jitter, so that many pages do not retry at the same time. */
const retryDelay = (answer) => (Number(answer.retry_after) || RETRY_DELAY) * (1 + Math.random() / 4);

/** Whether this is a phone, which cannot scan its own screen. */
const isPhone = () => matchMedia("(hover: none) and (pointer: coarse)").matches && Math.min(screen.width, screen.height) < 600;

/** `text` if it is the URL of an app, with any scheme that does not run a script in this page, else null. */
function appURL(text) {
  try {
    return text && !SCRIPT_SCHEMES.has(new URL(text).protocol) ? text : null;
  } catch {
    return null;
  }
}

/** `text` with the `values` of its placeholders, such as `{time}`. */
const expand = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

/** `text` if it is an HTTP URL, else null. A link from the server must never be a `javascript:` URL. */
const httpURL = (text) => (/^https?:\/\//i.test(text ?? "") ? text : null);

/** `promise`; rejects after `seconds`. */
function withTimeout(seconds, promise) {
  const timeout = sleep(seconds).then(() => { throw new Error(`no result within ${seconds} s`); });
  return Promise.race([promise, timeout]);
}

/** A signal that aborts a request after ANSWER_TIMEOUT_MS. */
function timeoutSignal() {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ANSWER_TIMEOUT_MS);
  return controller.signal;
}

const clients = new Map();

/**
 * The function `io` of the official Socket.IO client. It is loaded from the broker once for all elements of a page.
 * The client is a module, so it does not use globals of the page such as `define`, `module`, `exports` or `io`.
 */
function loadClient(url) {
  if (!clients.has(url)) {
    clients.set(url, import(/* webpackIgnore: true */ /* @vite-ignore */ url).then(({ io }) => io, (error) => { clients.delete(url); throw error; }));
  }
  return clients.get(url);
}

/** A token that is given to the page, whether a handler took it, and the promises that the widget awaits. */
class TokenDelivery {
  taken = false;
  promises = [];

  constructor(token) {
    this.token = token;
  }

  take() {
    this.taken = true;
    return { ...this.token };
  }
}

/** The events `login` and `scan-login-token`. A listener takes the token by reading it from the event. */
class TokenEvent extends CustomEvent {
  #delivery;

  constructor(type, delivery, options) {
    super(type, options);
    this.#delivery = delivery;
  }

  get detail() { return this.#delivery.take(); }
  get access_token() { return this.detail.access_token; }
  get token_type() { return this.detail.token_type; }
  get expires_in() { return this.detail.expires_in; }
  get subject() { return this.detail.subject; }

  /** Show "signing in" until `promise` settles. */
  waitUntil(promise) {
    this.#delivery.promises.push(promise);
  }
}

class ScanLogin extends HTMLElement {
  static observedAttributes = ["lang", "phone_app", "broker", "app"];

  #parts = {};
  #view = "loading";
  #handler = null; // the property `onlogin`
  #texts = {}; // the property `texts`
  #wrappers = new WeakMap(); // a listener of `login`: the function that is registered instead
  #login = null; // {id, secret, interval, state, registerUrl, number, asksDigits, tries, …} of the active login
  #attempt = {}; // a new object for each attempt; code that awaits compares it to ignore a late answer
  #socket = null;
  #polls = false; // true: RFC 8628 polling, because a WebSocket does not work on this network
  #offline = false;
  #spinnerEnd = 0; // Unix milliseconds; the end of the spinner of a lost connection
  #failures = 0; // attempts to connect the socket that failed since it was open
  #connecting = null; // the attempt that has neither failed nor succeeded
  #unanswered = 0; // consecutive sockets without an answer to `begin`
  #expiresAt = 0; // Unix milliseconds; the expiry of the code
  #lifetime = 1; // milliseconds; the whole circle of the countdown
  #autoRefreshes = 0; // since the last action of the person
  #begunAt = 0; // Unix milliseconds; the time since which the code is shown
  #retryAt = 0; // Unix milliseconds; the next attempt
  #tickTimer = 0;

  constructor() {
    super();
    this.#build();
    for (const name of ["onlogin", "texts"].filter((one) => Object.hasOwn(this, one))) {
      const value = this[name]; // set by the page before this script was loaded
      delete this[name];
      this[name] = value;
    }
  }

  /** Texts by language, over the built-in ones: `{fr: {again: "Réessayer"}}`. */
  get texts() {
    return this.#texts;
  }

  set texts(texts) {
    this.#texts = texts ?? {};
    this.#render();
  }

  get onlogin() {
    return this.#handler;
  }

  set onlogin(handler) {
    this.#handler = typeof handler === "function" ? handler : null;
  }

  /** As for any element. The widget also awaits the promise that a listener of `login` returns, as with `onlogin`. */
  addEventListener(type, listener, options) {
    super.addEventListener(type, type === "login" ? this.#wrap(listener) : listener, options);
  }

  removeEventListener(type, listener, options) {
    super.removeEventListener(type, type === "login" ? this.#wrap(listener) : listener, options);
  }

  #wrap(listener) {
    if (typeof listener !== "function") return listener;
    if (!this.#wrappers.has(listener)) {
      this.#wrappers.set(listener, (event) => {
        if (!(event instanceof TokenEvent)) return listener.call(this, event); // an event that the page dispatched
        event.waitUntil(new Promise((resolve) => resolve(listener.call(this, event))));
      });
    }
    return this.#wrappers.get(listener);
  }

  connectedCallback() {
    if (this.#tickTimer) return; // the element was moved within the page: the login continues
    this.#tickTimer = setInterval(() => this.#tick(), 1000);
    addEventListener("pageshow", this.#onPageShow);
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#start();
  }

  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected) return;
      clearInterval(this.#tickTimer);
      removeEventListener("pageshow", this.#onPageShow);
      document.removeEventListener("visibilitychange", this.#onVisible);
      this.#tickTimer = 0;
      this.#stop();
    });
  }

  attributeChangedCallback(name, before, now) {
    if (name === "lang" || name === "phone_app") this.#render();
    else if (this.#tickTimer && before !== now) {
      this.#polls = false;
      this.#start();
    }
  }

  /** The Back button may restore a page whose login was submitted. */
  #onPageShow = ({ persisted }) => {
    if (persisted && this.#isForm()) this.refresh();
  };

  /** Replace a code that expired while the page was hidden. */
  #onVisible = () => {
    if (this.#view === "expired" && this.#login === null && this.#mayRefresh()) this.#refreshExpired();
  };

  /** Show a new code. Cancels the login of the code on the screen. */
  refresh() {
    this.#autoRefreshes = 0;
    this.#refresh();
  }

  #refresh() {
    if (this.#view === "unreachable") this.#showSpinner();
    if (this.#socket?.connected) this.#begin();
    else this.#start();
  }

  // ---- rendering ----

  #build() {
    const [svg, path] = createIcon();
    const [ring, circle] = createIcon();
    circle.setAttribute("d", RING);
    circle.setAttribute("pathLength", "1");
    circle.setAttribute("stroke-dasharray", "1");
    const image = (part) => createElement("img", { part, className: part, alt: "", onerror: ({ target }) => { target.hidden = true; } });
    const link = (onclick) => createElement("button", { part: "link", className: "link", type: "button", onclick });
    const p = (this.#parts = {
      path, ring, circle,
      logo: image("logo"),
      name: createElement("span", { part: "name" }),
      image: createElement("img", {
        part: "code", className: "code", draggable: false,
        onload: () => this.#setImageLoaded(true), onerror: () => this.#imageFailed(),
      }),
      button: createElement("button", { part: "button", className: "button", type: "button", onclick: () => this.refresh() }),
      number: createElement("p", { className: "number" }),
      field: createElement("input", {
        part: "field", inputMode: "numeric", autocomplete: "one-time-code", pattern: "[0-9]{4}", maxLength: 4, required: true,
      }),
      send: createElement("button", { part: "button", className: "button" }),
      title: createElement("p", { part: "title", className: "title" }),
      hint: createElement("p", { part: "hint", className: "hint" }),
      steps: createElement("ol", { part: "steps", className: "steps" }),
      picture: image("picture"),
      scanner: createElement("span"),
      left: createElement("span"),
      open: createElement("a", { part: "button", className: "button open" }),
      register: createElement("a", { part: "button", className: "button register", target: "_blank", rel: "noopener noreferrer" }),
      link: link(() => this.refresh()),
      camera: link(() => this.#showLink()),
      panelText: createElement("span"),
      userCode: createElement("strong"),
      copy: link(() => this.#copyLink()),
    });
    p.number.setAttribute("aria-hidden", "true"); // the status has the number too
    p.header = createElement("div", { part: "header", className: "header" }, p.logo, p.name);
    p.badge = createElement("span", { className: "badge" }, svg);
    p.digits = createElement("form", { className: "digits", onsubmit: (event) => this.#submitDigits(event) }, p.field, p.send);
    p.veil = createElement("div", { className: "veil" }, p.badge, p.number, p.digits, p.button);
    p.frame = createElement("div", { part: "frame", className: "frame" }, p.image, p.veil);
    p.who = createElement("p", { part: "scanner", className: "who" }, p.picture, p.scanner);
    p.timer = createElement("p", { part: "timer", className: "timer" }, ring, p.left);
    p.timer.setAttribute("role", "timer"); // screen readers do not announce a timer when it changes
    p.status = createElement("div", { part: "status", className: "status" }, p.title, p.hint, p.who);
    p.status.setAttribute("role", "status");
    p.status.setAttribute("aria-live", "polite");
    p.panel = createElement("div", { part: "panel", className: "panel" }, p.panelText, p.userCode, p.copy);
    const slot = (name, ...children) => createElement("slot", { name }, ...children);
    p.stepsSlot = slot("steps", p.steps);
    p.card = createElement(
      "div", { part: "card", className: "card", tabIndex: -1 }, slot("header", p.header), p.frame, p.status,
      p.open, p.stepsSlot, p.timer, p.register, p.link, p.camera, p.panel, slot("other"),
    );
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLES];
    root.append(p.card);
    this.#render();
  }

  #show(view) {
    const focused = this.shadowRoot.activeElement;
    this.#view = view;
    if (view === "loading") this.#setImageLoaded(false);
    this.#render();
    // If the focused button is hidden, the browser moves the focus to the top of the page.
    if (focused && !focused.checkVisibility?.()) this.#parts.card.focus();
  }

  #render() {
    const [p, login] = [this.#parts, this.#login];
    const view = VIEWS[this.#view];
    const [language, texts] = this.#language();
    const opens = this.#view === "code" && Boolean(login?.openUrl) && isPhone();
    p.card.lang = language;
    p.card.className = `card ${view.tone ?? ""} ${view.icon === "spin" ? "spin" : ""} ${opens ? "phone" : ""}`;
    p.card.dataset.view = this.#view;
    p.card.setAttribute("aria-busy", String(Boolean(view.busy)));
    p.image.alt = texts.alt;
    p.image.hidden = !p.image.src || Boolean(view.blank);
    p.frame.classList.toggle("veiled", Boolean(view.icon));
    p.veil.hidden = !view.icon;
    p.path.setAttribute("d", ICONS[view.icon] ?? "");
    [p.title.textContent, p.hint.textContent] = texts[opens ? "phone" : this.#view].map((text) => this.#fill(text, texts));
    this.#renderMatch(Boolean(view.match), texts);
    this.#renderApp(opens, texts);
    this.#renderScanner(Boolean(view.who), texts);
    this.#renderPanel(opens, texts);
    p.button.hidden = !view.button;
    p.button.textContent = texts[view.button] ?? "";
    p.link.hidden = !view.link;
    p.link.textContent = texts[p.who.hidden ? view.link : "other"] ?? "";
    p.register.hidden = this.#view !== "unregistered" || !login?.registerUrl;
    p.register.textContent = texts.register;
    if (!p.register.hidden) p.register.href = login.registerUrl;
    this.#renderTimer();
  }

  /** The name and the logo of the app, the steps, and on a phone the button that opens the phone app. */
  #renderApp(opens, texts) {
    const [p, login] = [this.#parts, this.#login];
    if (login) p.name.textContent = login.app.name ?? "";
    p.header.hidden = !p.name.textContent;
    setImage(p.logo, login ? httpURL(login.app.logo_url) : p.logo.src);
    p.open.hidden = !opens;
    p.open.textContent = texts.open;
    if (opens) p.open.href = login.openUrl;
    p.stepsSlot.hidden = opens || this.#view !== "code";
    p.steps.replaceChildren(...texts.steps.map((step) => createElement("li", { textContent: this.#fill(step, texts) })));
  }

  /** The person who scanned, if the app allows it. */
  #renderScanner(isShown, texts) {
    const [p, scanner] = [this.#parts, this.#login?.scanner];
    p.who.hidden = !isShown || !scanner;
    p.scanner.textContent = scanner?.name ? expand(texts.scanner, scanner) : "";
    setImage(p.picture, httpURL(scanner?.picture));
  }

  /** The short code and its link, for a person whose camera does not work. */
  #renderPanel(opens, texts) {
    const [p, login] = [this.#parts, this.#login];
    const link = this.#view === "code" ? login?.link : null;
    p.camera.hidden = this.#view !== "code" || opens || Boolean(link) || (this.#polls && !login?.device);
    p.camera.textContent = texts.camera;
    p.panel.hidden = !link;
    p.panelText.textContent = expand(texts.link, { uri: link?.verification_uri.replace(/^https?:\/\//, "") });
    p.userCode.textContent = link?.user_code ?? "";
    p.copy.textContent = texts[login?.isCopied ? "copied" : "copy"];
  }

  async #showLink() {
    const login = this.#login;
    const link = login.device ?? (await this.#call("link", this.#proof()));
    if (login !== this.#login || !link) return;
    if (link.error) return this.#handleError(link);
    login.link = link;
    this.#render();
    this.#parts.copy.focus();
  }

  async #copyLink() {
    const login = this.#login;
    try {
      await navigator.clipboard.writeText(login.link.verification_uri_complete);
      login.isCopied = true;
    } catch {
      getSelection().selectAllChildren(this.#parts.userCode); // without the permission the person copies the code
    }
    this.#render();
  }

  /** No push follows when a person without an account has registered: the field is shown before too. */
  #renderMatch(isShown, texts) {
    const [p, login] = [this.#parts, this.#login];
    p.number.textContent = login?.number ?? "";
    p.number.hidden = !isShown || !login?.number;
    p.digits.hidden = !isShown || !login?.asksDigits;
    p.badge.hidden = !p.number.hidden || !p.digits.hidden;
    p.field.ariaLabel = texts.field;
    p.send.textContent = texts.send;
    p.send.disabled = Boolean(login?.isProving);
    if (!p.digits.hidden && login.note) p.hint.textContent = this.#fill(texts[login.note], texts);
  }

  #fill(text, texts) {
    const { number, tries, app } = this.#login ?? {};
    const phone = this.getAttribute("phone_app") || texts.apps[app?.provider] || texts.anyApp;
    return expand(text, { number, tries, phone });
  }

  #renderTimer() {
    const [p, { timer }] = [this.#parts, VIEWS[this.#view]];
    const end = timer === "retries" ? this.#retryAt : this.#codeEnd();
    const left = Math.max(0, end - Date.now());
    p.ring.toggleAttribute("hidden", !timer || timer === "retries");
    p.circle.setAttribute("stroke-dashoffset", String(1 - Math.min(1, left / this.#lifetime)));
    p.left.textContent = timer ? expand(this.#language()[1][timer], { time: formatTime(Math.ceil(left / 1000)) }) : "";
  }

  /** The language of the element, and its texts. A text that a language lacks is in English. */
  #language() {
    const wanted = (this.closest("[lang]:not([lang=''])")?.lang || navigator.language).toLowerCase();
    const known = Object.keys({ ...this.#texts, ...TEXTS });
    const base = (tag) => tag.toLowerCase().split("-")[0];
    const language = known.find((tag) => tag.toLowerCase() === wanted) ?? known.find((tag) => base(tag) === base(wanted)) ?? "en";
    return [language, { ...TEXTS.en, ...TEXTS[language], ...this.#texts[language] }];
  }

  #setImageLoaded(isLoaded) {
    this.#parts.frame.classList.toggle("drawn", isLoaded);
  }

  #imageFailed() {
    if (!this.#login) return;
    this.#stop();
    this.#report({ error: "code_unreachable", error_description: "the image of the code could not be loaded" });
    this.#show("picture");
  }

  #emit(name, detail = {}) {
    this.dispatchEvent(new CustomEvent(`scan-login-${name}`, { detail, bubbles: true, composed: true }));
  }

  /** Report an error to the page and to the console. The person sees the translated texts of the view only. */
  #report({ error, error_description }, ...details) {
    console.warn(`scan-login: ${error}: ${error_description}`, ...details);
    this.#emit("error", { error, error_description });
  }

  #tick() {
    this.#renderTimer();
    // The push `login-expired` may be lost. Resume, so that no expired code stays on the screen.
    const isLate = VIEWS[this.#view].live && Date.now() > this.#expiresAt + LATE_EXPIRY_MS;
    if (isLate && this.#socket?.connected) this.#resume();
    if (this.#view === "offline" && Date.now() > this.#spinnerEnd) this.#show("unreachable");
    if (this.#hasOldCode() && this.#socket?.connected) this.#refreshOldCode();
  }

  /** Unix milliseconds; when the code expires, or is replaced because of `refresh_every`. */
  #codeEnd() {
    const seconds = Number(this.getAttribute("refresh_every"));
    const isReplaced = seconds > 0 && this.#view === "code" && isVisible();
    return isReplaced ? Math.min(this.#expiresAt, this.#begunAt + Math.max(seconds, REFRESH_MIN) * 1000) : this.#expiresAt;
  }

  /** Whether a code without a known scan is older than `refresh_every` seconds. */
  #hasOldCode() {
    return this.#view === "code" && this.#codeEnd() < this.#expiresAt && Date.now() > this.#codeEnd();
  }

  /** Whether an expired code is replaced without an action of the person. */
  #mayRefresh() {
    return this.getAttribute("auto_refresh") !== "off" && isVisible() && this.#autoRefreshes < AUTO_REFRESHES;
  }

  #refreshExpired() {
    this.#autoRefreshes += 1;
    this.#refresh();
  }

  /** Replace an old code, unless `resume` reports a scan: its push may be late or lost. */
  async #refreshOldCode() {
    const login = this.#login;
    if (login.isResuming) return;
    await this.#resume();
    if (login === this.#login && this.#hasOldCode()) this.#refresh();
  }

  // ---- one login ----

  #broker() {
    return this.getAttribute("broker") || (SCRIPT_URL ? new URL(".", SCRIPT_URL).href : location.origin);
  }

  /** `path` of the broker, which may have a path prefix. Returns null if the attribute `broker` is not a URL. */
  #endpoint(path) {
    try {
      const { origin, pathname } = new URL(this.#broker(), document.baseURI);
      const fullPath = pathname.replace(/\/+$/, "") + path;
      return { url: origin + fullPath, origin, path: fullPath };
    } catch {
      return null;
    }
  }

  #app() {
    return this.getAttribute("app") || "default";
  }

  /** Whether the widget submits the login in a form, and the authorization request that it is for. */
  #isForm() {
    return this.getAttribute("mode") === "form";
  }

  #request() {
    const request = this.getAttribute("request");
    return request ? { request } : {};
  }

  async #start() {
    this.#stop();
    if (!["offline", "unreachable"].includes(this.#view)) this.#show("loading");
    if (!this.#endpoint("/")) return this.#end("refused"); // the attribute `broker` is not a URL
    if (this.#polls) return this.#beginPolling();
    const attempt = this.#attempt;
    this.#pollAfterDelay();
    const io = await loadClient(this.#endpoint("/socket.io/socket.io.esm.min.js").url).catch(() => null);
    if (attempt !== this.#attempt) return;
    if (io) this.#open(io);
    else this.#beginPolling();
  }

  /** Poll in parallel to the socket and keep the first that works. Some proxies drop WebSocket upgrades silently. */
  async #pollAfterDelay() {
    const attempt = this.#attempt;
    const connecting = (this.#connecting = {});
    await sleep(POLL_FALLBACK_DELAY);
    if (attempt !== this.#attempt || this.#socket?.connected) return;
    // A broker that restarts refuses attempts at once: then the login stays on the socket.
    const isPending = connecting === this.#connecting;
    if (isPending || !this.#login) this.#fallBackToPolling();
  }

  /** Continue the login by polling, or begin one. */
  #fallBackToPolling() {
    return this.#login ? this.#switchToPolling() : this.#beginPolling();
  }

  /** Stop the current attempt. An active login is cancelled, so that no phone can confirm it. */
  #stop() {
    if (this.#login && this.#socket?.connected) this.#socket.emit("cancel", this.#proof());
    this.#disconnect();
    this.#dropLogin();
  }

  #disconnect() {
    this.#socket?.off().disconnect();
    this.#socket = null;
  }

  #dropLogin() {
    this.#login = null;
    this.#attempt = {};
  }

  #end(view) {
    this.#disconnect(); // an open tab without an active login uses no connection to the broker
    this.#dropLogin();
    this.#show(view);
  }

  #proof() {
    return { login_id: this.#login.id, secret: this.#login.secret };
  }

  #setLogin({ login_id, scene, secret, code_url, open_url, app = {}, expires_in, interval = RETRY_DELAY, ...rest }) {
    const device = rest.verification_uri_complete ? rest : null; // of a login that was begun by polling
    this.#login = { id: login_id, secret, interval, app, device, openUrl: appURL(open_url), state: "pending" };
    this.#begunAt = Date.now();
    this.#expiresAt = this.#begunAt + expires_in * 1000;
    this.#parts.field.value = "";
    this.#setImageLoaded(false);
    this.#parts.image.src = code_url;
    this.#show("code");
    this.#lifetime = this.#codeEnd() - this.#begunAt;
    this.#renderTimer();
    this.#emit("begun", { login_id, scene, expires_in });
  }

  /** Apply the login's `state`, which a push, a resume or a poll has brought. */
  #applyState(state, { register_url, expires_in, match, prove, tries, refused, scanner } = {}) {
    const { state: before } = this.#login;
    const changed = before !== state;
    this.#login.state = state;
    if (expires_in !== undefined) this.#setExpiry(expires_in);
    if (state === "confirmed") return this.#redeem();
    if (state === "pending") return this.#show("code");
    if (!SHOWN_STATES.has(state)) return this.#restart(); // ended by another client
    const isLost = state === "expired" && Date.now() < this.#expiresAt - EARLY_EXPIRY_MS;
    if (isLost) return this.#restart();
    if (state === "unregistered") this.#login.registerUrl = httpURL(register_url);
    if (typeof match === "string") this.#login.number = match;
    if (prove) Object.assign(this.#login, { asksDigits: true, tries });
    if (typeof scanner === "object") this.#login.scanner = scanner;
    if (state === "expired" && before === "pending" && this.#mayRefresh()) {
      this.#emit(state);
      return this.#refreshExpired();
    }
    if (state === "denied" || state === "expired") this.#end(this.#endView(state, refused));
    else this.#show(state === "scanned" ? this.#scannedView() : state);
    if (changed) this.#emit(state);
    const needsExpiry = state === "unregistered" && expires_in === undefined; // a push has no `expires_in`
    const needsFields = match === true || scanner === true; // a push has no number and no name
    if ((needsExpiry || needsFields) && this.#socket) this.#resume();
  }

  #setExpiry(seconds) {
    this.#expiresAt = Date.now() + seconds * 1000;
    if (this.#view !== "code") this.#lifetime = Math.max(this.#lifetime, seconds * 1000);
  }

  #scannedView() {
    const { number, asksDigits } = this.#login;
    return asksDigits ? "digits" : number ? "number" : "scanned";
  }

  /** The broker does not tell the browser whether the person denied the login or chose a wrong number. */
  #endView(state, refused) {
    if (refused) return "forbidden";
    return state === "denied" && this.#scannedView() !== "scanned" ? "mismatch" : state;
  }

  #submitDigits(event) {
    event.preventDefault();
    this.#prove(this.#parts.field.value);
  }

  /** Send the digits that the person read on the phone. */
  async #prove(match) {
    const login = this.#login;
    if (!login || login.isProving) return;
    const { tries } = login;
    login.isProving = true;
    this.#render();
    const answer = this.#polls
      ? await this.#requestToken({ match })
      : await this.#call("prove", { ...this.#proof(), match });
    login.isProving = false;
    if (login !== this.#login) return;
    this.#parts.field.value = "";
    // Digits that the broker compared are not counted as a poll, so `slow_down` means that it has none.
    const isUncounted = answer?.error === "authorization_pending" && answer.tries === tries;
    const isEarly = isUncounted || ["invalid_state", "slow_down"].includes(answer?.error);
    if (answer?.tries < tries) Object.assign(login, { tries: answer.tries, note: "wrong" });
    else if (isEarly) login.note = "early";
    if (this.#polls) this.#applyPoll(answer);
    else if (answer?.error && !isEarly) this.#handleError(answer);
    else if (answer?.state) this.#applyState(answer.state);
    this.#render();
    if (!this.#parts.digits.hidden) this.#parts.field.focus();
  }

  #restart() {
    return this.#polls ? this.#restartPolling() : this.#begin();
  }

  /** Give the token to the page and show "signing in" until the page has used it. */
  async #finish({ access_token, token_type, expires_in, subject }) {
    const delivery = new TokenDelivery({ access_token, token_type, expires_in, subject });
    this.#end("confirmed");
    const attempt = this.#attempt;
    try {
      await withTimeout(HANDLER_TIMEOUT, this.#deliver(delivery));
      if (attempt === this.#attempt) this.#showResult(delivery);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#report({ error: "login_rejected", error_description: String(error?.message ?? error) }, error);
      this.#show("rejected");
    }
  }

  /** Give the token to the listeners and the handler, and wait until all of them are done. */
  async #deliver(delivery) {
    this.dispatchEvent(new TokenEvent("login", delivery));
    this.dispatchEvent(new TokenEvent("scan-login-token", delivery, { bubbles: true, composed: true }));
    const handled = this.#handler?.(delivery.take());
    await Promise.all([handled, ...delivery.promises]);
  }

  #showResult({ taken }) {
    if (taken) return this.#show("done");
    this.#report({
      error: "login_unhandled",
      error_description: this.hasAttribute("onlogin")
        ? "the attribute onlogin is not supported; set the property onlogin to a function"
        : "no handler took the token; set the property onlogin or listen for the event login",
    });
    this.#show("unhandled");
  }

  /** Show the error `answer`. If it is temporary, call `retry` after the time that the server named. */
  #fail(answer, retry) {
    this.#report(answer);
    const isPermanent = CONFIGURATION_ERRORS.has(answer.error) || !retry;
    if (!RETRYABLE.has(answer.error)) return this.#end(isPermanent ? "refused" : "error");
    this.#retryAfter(retryDelay(answer), retry);
    this.#show("waiting");
  }

  async #retryAfter(seconds, retry) {
    const attempt = this.#attempt;
    this.#retryAt = Date.now() + seconds * 1000;
    await sleep(seconds);
    if (attempt === this.#attempt) retry();
  }

  #setOffline() {
    if (this.#offline) return;
    this.#offline = true;
    this.#showSpinner();
    this.#emit("offline");
  }

  #showSpinner() {
    this.#spinnerEnd = Date.now() + OFFLINE_TIMEOUT_MS;
    this.#show("offline");
  }

  #setOnline() {
    if (!this.#offline) return;
    this.#offline = false;
    this.#emit("online");
  }

  // ---- WebSocket ----

  #open(io) {
    const { origin, path } = this.#endpoint("/socket.io/");
    const auth = { app: this.#app() };
    const options = { path, transports: ["websocket"], auth, forceNew: true, timeout: ANSWER_TIMEOUT_MS };
    const socket = (this.#socket = io(`${origin}/login`, options));
    this.#failures = 0;
    socket.io.on("reconnect_attempt", () => this.#pollAfterDelay());
    socket.on("connect", () => { this.#connecting = null; this.#failures = 0; this.#setOnline(); this.#resumeOrBegin(); });
    socket.on("connect_error", ({ data }) => {
      this.#connecting = null;
      if (data?.error) this.#connectRefused(data);
      else if (++this.#failures >= 2) this.#fallBackToPolling();
    });
    socket.on("disconnect", (reason) => {
      this.#setOffline();
      // A draining instance closes its sockets. Socket.IO does not reconnect after the server has closed a socket.
      if (reason === "io server disconnect") this.#retryAfter(1 + Math.random(), () => this.#connect());
    });
    for (const state of ["scanned", "confirmed", "denied", "unregistered", "expired"]) {
      socket.on(`login-${state}`, (push) => {
        const isCurrent = this.#login && push.login_id === this.#login.id; // else the push is for an earlier code
        if (isCurrent) this.#applyState(state, push);
      });
    }
  }

  /** The broker refused CONNECT. The widget connects again only if the error is temporary. */
  #connectRefused(data) {
    this.#setOnline();
    this.#attempt = {}; // the broker has answered: no polling in parallel
    this.#fail(data, RETRYABLE.has(data.error) ? () => this.#socket?.connect() : null);
  }

  #resumeOrBegin() {
    return this.#login ? this.#resume() : this.#begin();
  }

  /** The answer to `event`. Null if the answer is missing (the socket reconnects) or the attempt has ended. */
  async #call(event, payload) {
    const [socket, attempt] = [this.#socket, this.#attempt];
    try {
      const answer = await socket.timeout(ANSWER_TIMEOUT_MS).emitWithAck(event, payload);
      this.#unanswered = 0;
      return attempt === this.#attempt ? answer : null;
    } catch {
      if (attempt === this.#attempt && socket.connected) this.#reconnect();
      return null;
    }
  }

  #connect() {
    if (!this.#socket) return; // the login continues by polling
    this.#socket.connect();
    this.#pollAfterDelay();
  }

  /** Reconnect after an open socket did not answer. */
  #reconnect() {
    if (this.#login || ++this.#unanswered < BEGIN_ATTEMPTS) {
      this.#socket.disconnect();
      return this.#connect();
    }
    this.#unanswered = 0;
    this.#fail({ error: "unanswered", error_description: "the broker does not answer on the open socket" }, () => {});
  }

  async #begin() {
    this.#dropLogin();
    this.#show("loading");
    const answer = await this.#call("begin", this.#request());
    if (answer?.error) this.#fail(answer, () => this.refresh());
    else if (answer) this.#setLogin(answer);
  }

  async #resume() {
    const login = this.#login;
    if (login.isResuming) return;
    login.isResuming = true;
    const answer = await this.#call("resume", this.#proof());
    login.isResuming = false;
    if (!answer) return;
    if (answer.error) return this.#handleError(answer);
    const unfinished = answer.state === "pending" || answer.state === "scanned";
    const ended = unfinished && answer.expires_in <= 0;
    this.#applyState(ended ? "expired" : answer.unregistered ? "unregistered" : answer.state, answer);
  }

  async #redeem() {
    const login = this.#login;
    if (login.isRedeeming) return; // both a push and the answer to `resume` may report `confirmed`
    if (this.#isForm()) return this.#submit();
    login.isRedeeming = true;
    this.#show("confirmed");
    const answer = await this.#call("redeem", this.#proof());
    login.isRedeeming = false;
    if (answer?.error) this.#handleError(answer);
    else if (answer) this.#finish(answer);
  }

  /** Submit the confirmed login. The broker answers with a redirect to the app. */
  #submit() {
    const fields = { request: this.getAttribute("request") ?? "", ...this.#proof() };
    this.#end("confirmed"); // without `cancel`
    const inputs = Object.entries(fields).map(([name, value]) => createElement("input", { type: "hidden", name, value }));
    const form = createElement("form", { method: "post", action: this.getAttribute("action") ?? "", hidden: true }, ...inputs);
    document.body.append(form);
    form.submit();
    const attempt = this.#attempt;
    sleep(HANDLER_TIMEOUT).then(() => attempt === this.#attempt && this.#show("rejected")); // no answer
  }

  /** Handle an error answer to `resume`, `redeem` or a poll. */
  #handleError(answer) {
    if (answer.error === "invalid_grant") return this.#restart(); // unknown to the broker, or already redeemed
    if (answer.error === "expired_token") return this.#applyState("expired");
    if (answer.error === "access_denied") return this.#applyState("denied", answer);
    if (answer.error === "authorization_pending") return this.#resume(); // the confirm was lost in a failover
    this.#fail(answer, () => (this.#socket?.connected ? this.#resumeOrBegin() : this.#socket?.connect()));
  }

  // ---- polling, RFC 8628 ----

  /** Begin a login over HTTP. If a socket opens first, this login is cancelled. */
  async #beginPolling() {
    const attempt = this.#attempt;
    if (attempt.hasPolled) return;
    attempt.hasPolled = true;
    const answer = await this.#post("/oauth/device_authorization", { client_id: this.#app(), ...this.#request() });
    const [login_id, secret] = answer?.device_code?.split(".") ?? [];
    if (attempt !== this.#attempt) return this.#discard({ login_id, secret });
    if (!answer) return this.#unreachable();
    this.#setOnline();
    if (answer.error) return this.#fail(answer, () => this.#start());
    this.#disconnect();
    this.#dropLogin();
    this.#polls = true;
    this.#setLogin({ ...answer, scene: answer.scene ?? answer.user_code, secret });
    this.#keepPolling();
  }

  #restartPolling() {
    this.#dropLogin();
    this.#beginPolling();
  }

  /** Cancel a login that is not shown. Without a socket it expires. */
  #discard(proof) {
    if (proof.secret && this.#socket?.connected) this.#socket.emit("cancel", proof);
  }

  /** Continue the same login by polling if the socket cannot reconnect and HTTP requests work. */
  async #switchToPolling() {
    const attempt = this.#attempt;
    const answer = await this.#requestToken();
    if (attempt !== this.#attempt || this.#polls || this.#socket?.connected) return;
    if (!answer || RETRYABLE.has(answer.error)) return; // the socket keeps reconnecting
    this.#disconnect();
    this.#polls = true;
    this.#applyPoll(answer);
    if (attempt === this.#attempt) this.#keepPolling();
  }

  async #keepPolling() {
    const attempt = this.#attempt;
    let [interval, wait] = [this.#login.interval, 0];
    while (attempt === this.#attempt) {
      await sleep(wait || interval);
      if (attempt !== this.#attempt) return;
      const next = await this.#requestToken();
      if (attempt !== this.#attempt) return;
      if (next?.error === "slow_down") interval += 5; // RFC 8628, section 3.5
      wait = this.#applyPoll(next);
      if (next?.error === "authorization_pending" && this.#hasOldCode()) return this.#refresh();
    }
  }

  /** HTTP requests fail too. Start again after a delay. */
  async #unreachable() {
    const attempt = this.#attempt;
    const originRefused = await this.#isOriginRefused();
    if (attempt !== this.#attempt) return;
    if (originRefused) return this.#fail(ORIGIN_ERROR, null);
    this.#polls = false;
    this.#setOffline();
    this.#retryAfter(retryDelay({}), () => this.#start());
  }

  /** Whether the broker is reachable but the browser blocks its answers: the app does not allow this Origin. */
  async #isOriginRefused() {
    const options = { mode: "no-cors", signal: timeoutSignal() };
    const response = await fetch(this.#endpoint("/health/live").url, options).catch(() => null);
    return response !== null && (await this.#post("/oauth/token", {})) === null;
  }

  #requestToken(fields = {}) {
    return this.#post("/oauth/token", {
      grant_type: "urn:ietf:params:oauth:grant-type:device_code",
      device_code: `${this.#login.id}.${this.#login.secret}`, client_id: this.#app(), ...fields,
    });
  }

  /** Apply the token endpoint's `answer`. Returns the seconds until the next poll, 0 for the usual interval. */
  #applyPoll(answer) {
    if (!answer) return this.#setOffline(), retryDelay({});
    if (RETRYABLE.has(answer.error)) return retryDelay(answer);
    const wasOffline = this.#offline;
    this.#setOnline();
    if (answer.access_token) return this.#finish(answer), 0;
    const state = answer.state ?? this.#login.state;
    if (["authorization_pending", "slow_down"].includes(answer.error)) {
      const isNew = state !== this.#login.state || (answer.tries !== undefined && answer.tries !== this.#login.tries);
      if (wasOffline || isNew) this.#applyState(state, answer);
    } else this.#handleError(answer);
    return 0;
  }

  /** POST a form. Returns the JSON answer, or null if the broker could not be reached. */
  async #post(path, form) {
    try {
      const body = new URLSearchParams(form);
      const options = { method: "POST", mode: "cors", credentials: "omit", body, signal: timeoutSignal() };
      return await (await fetch(this.#endpoint(path).url, options)).json();
    } catch {
      return null;
    }
  }
}

if (!customElements.get("scan-login")) customElements.define("scan-login", ScanLogin);
})();
