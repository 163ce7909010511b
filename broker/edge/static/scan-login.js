/**
 * <scan-login>: shows a code, waits for the phone, hands the page a signed token.
 *
 *     <script src="https://login.example/scan-login.js" defer></script>
 *     <scan-login broker="https://login.example" app="default"></scan-login>
 *     document.querySelector("scan-login").onlogin = async (token) => { … token.access_token … };
 *
 * Attributes: `broker` (default: the folder of this file), `app`, `lang` (zh… or en), `theme` (light or dark).
 * Events prefixed `scan-login-`: begun scanned unregistered denied expired offline online error token.
 * The token goes to `onlogin(token)` and to listeners of the event `login`. Both may return a promise: the widget
 * shows "signing in" until it settles. `refresh()` shows a new code.
 * Colours: --scan-login-card, -ink, -muted, -line, -accent, -on-accent, -danger; also -border, -radius, -padding, -font.
 *
 * The login's secret stays in a private field: it is in no attribute, event or storage.  A push only
 * says that something changed; what it changed to is asked for, so a push lost on the way costs nothing.
 */
(() => {
"use strict";

const ACK_MS = 8000; // longer than a healthy broker ever takes; after it the link counts as dead
const FALLBACK_DELAY = 2.5; // seconds that a WebSocket gets to open before polling starts beside it
const BEGIN_ATTEMPTS = 3; // sockets that may leave `begin` unanswered before the widget shows an error
const HANDLER_TIMEOUT = 30; // seconds that the page's handlers get to use the token
const OFFLINE_TIMEOUT_MS = 60_000; // after a lost connection: then a message and a button replace the spinner
const OVERDUE_MS = 2000; // how late the push `login-expired` may be before we ask
const EARLY_MS = 3000; // how early it may be before it means that the broker has lost the login
const WAIT_SECONDS = 5; // between tries, where the server names no `retry_after`; RFC 8628's poll interval too
const WAIT = new Set(["rate_limited", "temporarily_unavailable"]); // passing troubles: wait, then try again
const HOPELESS = new Set(["invalid_client", "invalid_request"]); // the page is set up wrongly: no button helps
const FOREIGN = {
  error: "invalid_client",
  error_description: `pages of ${location.origin} may not use this broker: add the origin to SCAN_LOGIN_ORIGINS`,
};

/**
 * The address of this file, or undefined.  A module has no `currentScript`, and `import.meta` is a syntax error
 * in a classic script; a module that another one imports is only in the resource timeline.
 */
function ownAddress() {
  if (document.currentScript) return document.currentScript.src;
  const scripts = [...document.scripts].map((script) => script.src);
  const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  return [...loaded, ...scripts].filter((address) => /\/scan-login\.js([?#]|$)/.test(address)).pop();
}

const SOURCE = ownAddress();

const TEXTS = {
  "en": {
    loading: ["Getting a code…", ""],
    code: ["Scan to sign in", "Open the app on your phone and scan this code."],
    scanned: ["Scanned", "Confirm on your phone."],
    unregistered: ["No account yet", "Register, then confirm again on your phone. This page continues by itself."],
    confirmed: ["Confirmed", "Signing you in…"],
    done: ["You are signed in", ""],
    denied: ["Sign-in declined", "It was declined on the phone."],
    expired: ["This code has expired", "Get a new one and scan again."],
    offline: ["Connection lost", "Reconnecting…"],
    unreachable: ["No connection", "Check your network. This page keeps trying."],
    waiting: ["Busy right now", "This page tries again by itself."],
    error: ["Something went wrong", "Please try again."],
    refused: ["Sign-in is not available here", "Please tell the people who run this site."],
    rejected: ["This site could not sign you in", "Please try again."],
    unhandled: ["This site did not complete the sign-in", "Please tell the people who run this site."],
    picture: ["The code could not be loaded", "Please try again."],
    again: "Try again", fresh: "New code", register: "Register",
    expires: (time) => `Valid for ${time}`, retries: (time) => `Next try in ${time}`,
    registers: (time) => `Time left to register: ${time}`,
    alt: "Sign-in code to scan with your phone",
  },
  "zh-CN": {
    loading: ["正在获取二维码…", ""],
    code: ["扫码登录", "请用手机扫描二维码"],
    scanned: ["扫描成功", "请在手机上确认登录"],
    unregistered: ["尚未注册", "请先注册，再在手机上确认，本页会自动继续"],
    confirmed: ["已确认", "正在登录…"],
    done: ["登录成功", ""],
    denied: ["登录被拒绝", "手机上拒绝了本次登录"],
    expired: ["二维码已过期", "请刷新后重新扫描"],
    offline: ["连接已断开", "正在重新连接…"],
    unreachable: ["无法连接", "请检查网络，本页会继续重试"],
    waiting: ["当前访问较多", "稍后将自动重试"],
    error: ["出了点问题", "请重试"],
    refused: ["此处无法扫码登录", "请联系网站管理员"],
    rejected: ["网站未能完成登录", "请重试"],
    unhandled: ["网站没有完成登录", "请联系网站管理员"],
    picture: ["二维码加载失败", "请重试"],
    again: "重试", fresh: "刷新二维码", register: "去注册",
    expires: (time) => `${time} 后过期`, retries: (time) => `${time} 后重试`,
    registers: (time) => `注册剩余时间 ${time}`,
    alt: "登录二维码，请用手机扫描",
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

// What each view has besides its text.  icon: covers the code; button: over it, link: quietly below;
// timer: which countdown; live: the login is active; blank: the code is removed; busy: a request is in progress.
const VIEWS = {
  loading: { busy: true },
  code: { timer: "expires", live: true },
  scanned: { icon: "phone", timer: "expires", link: "fresh", live: true },
  unregistered: { icon: "person", timer: "registers", link: "fresh", live: true, blank: true },
  confirmed: { icon: "spin", busy: true },
  done: { icon: "tick" },
  denied: { icon: "cross", tone: "danger", button: "again" },
  expired: { icon: "clock", tone: "muted", button: "fresh" },
  offline: { icon: "spin", busy: true },
  unreachable: { icon: "alert", tone: "muted", button: "again" },
  waiting: { icon: "clock", tone: "muted", timer: "retries", busy: true },
  error: { icon: "alert", tone: "danger", button: "again" },
  refused: { icon: "alert", tone: "danger" },
  rejected: { icon: "alert", tone: "danger", button: "again" },
  unhandled: { icon: "alert", tone: "danger" },
  picture: { icon: "alert", tone: "danger", button: "again" },
};

const palette = (colours) => Object.entries(colours).map(([k, v]) => `--${k}: var(--scan-login-${k}, ${v});`).join("");
const LIGHT = palette({
  "card": "#fff", "ink": "#16191d", "muted": "#5b6570", "line": "#dfe3e8", "accent": "#0a7d45",
  "on-accent": "#fff", "danger": "#b42318", "veil": "rgba(255,255,255,.94)", "bone": "#eceff2", "on-tone": "#fff",
});
const DARK = palette({
  "card": "#1b2026", "ink": "#eceff2", "muted": "#a3adb8", "line": "#323a43", "accent": "#2fbf77",
  "on-accent": "#08130c", "danger": "#ff8a7a", "veil": "rgba(27,32,38,.94)", "bone": "#2a3139", "on-tone": "#16191d",
});
const STYLES = new CSSStyleSheet();
STYLES.replaceSync(`
  :host { display: block; ${LIGHT} color-scheme: light; }
  @media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} color-scheme: dark; } }
  :host([theme="dark"]) { ${DARK} color-scheme: dark; }
  :host([hidden]), [hidden] { display: none !important; }
  * { box-sizing: border-box; margin: 0; }
  .card { max-width: 20rem; margin: 0 auto; padding: var(--scan-login-padding, 1.25rem);
    display: flex; flex-direction: column; align-items: center; text-align: center;
    background: var(--card); color: var(--ink); outline: none;
    border: var(--scan-login-border, 1px solid var(--line)); border-radius: var(--scan-login-radius, 16px);
    font: 400 .9375rem/1.5 var(--scan-login-font, system-ui, -apple-system, "Segoe UI", Roboto,
      "PingFang SC", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif); }
  .frame { position: relative; width: min(100%, 14rem); aspect-ratio: 1; overflow: hidden;
    border: 1px solid var(--line); border-radius: 12px; background: var(--bone); }
  /* White in dark mode too: cameras want the quiet zone brighter than the code. */
  .code { display: block; width: 100%; height: 100%; padding: 4%; object-fit: contain; background: #fff;
    opacity: 0; transition: opacity .2s; }
  .drawn .code { opacity: 1; }
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
  .status { min-height: 4.1em; padding-top: 1rem; overflow-wrap: anywhere; text-wrap: balance; }
  .title { font-size: 1.0625rem; font-weight: 600; }
  .hint, .timer { color: var(--muted); }
  .timer { min-height: 1.5em; font-size: .875rem; font-variant-numeric: tabular-nums; }
  button, a { font: inherit; font-weight: 600; line-height: 1.25; border-radius: 999px; cursor: pointer; }
  .button { display: inline-block; padding: .65em 1.5em; border: 0; text-decoration: none;
    background: var(--accent); color: var(--on-accent); }
  .button:hover { filter: brightness(1.08); }
  .register { margin: .5rem 0; }
  .link { margin-top: .25rem; padding: .4em .9em; border: 0; background: none; color: var(--accent); }
  .link:hover { text-decoration: underline; }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  @keyframes sweep { to { transform: translateX(100%); } }
  @keyframes turn { to { transform: rotate(1turn); } }
  @keyframes appear { from { opacity: 0; } }
  @media (prefers-reduced-motion: reduce) { *, *::before { animation: none !important; transition: none !important; } }
`);

/** A new element with the given properties and children; text never goes through a parser. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** An outline icon; returns the <svg> and the <path> whose `d` is the drawing. */
function makeIcon() {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return [svg, path];
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** How long to wait before the next try: a little spread keeps a crowd of pages from coming back at once. */
const waitFor = (answer) => (Number(answer.retry_after) || WAIT_SECONDS) * (1 + Math.random() / 4);

/** `text` if it is a web address; a link must never be `javascript:` whatever the server says. */
const webAddress = (text) => (/^https?:\/\//i.test(text ?? "") ? text : null);

/** `promise`, rejected after so many seconds. */
function within(seconds, promise) {
  const late = sleep(seconds).then(() => { throw new Error(`no result within ${seconds} s`); });
  return Promise.race([promise, late]);
}

/** A signal that aborts a request after ACK_MS. */
function deadline() {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ACK_MS);
  return controller.signal;
}

const clients = new Map();

/**
 * The function `io` of the official Socket.IO client, loaded from the broker once for all elements of a page.
 * As a module it reads and writes no global of the page, such as `define`, `module`, `exports` or `io`.
 */
function loadClient(url) {
  if (!clients.has(url)) {
    clients.set(url, import(url).then(({ io }) => io, (error) => { clients.delete(url); throw error; }));
  }
  return clients.get(url);
}

/** One token on its way to the page: whether a handler took it, and the promises that the widget waits for. */
class Delivery {
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

/** The events `login` and `scan-login-token`.  A listener takes the token when it reads it from the event. */
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
  static observedAttributes = ["lang", "broker", "app"];

  #parts = {};
  #view = "loading";
  #handler = null; // the property `onlogin`
  #wrappers = new WeakMap(); // listener of `login`: the function that is registered in its place
  #login = null; // {id, secret, interval, state, registerUrl}: the login that the phone can still act on
  #turn = {}; // replaced whenever what is under way no longer matters; late answers find it changed
  #socket = null;
  #polls = false; // no WebSocket gets through here: RFC 8628 polling instead
  #offline = false;
  #offlineUntil = 0; // when the spinner of a lost connection ends, in Unix milliseconds
  #unanswered = 0; // sockets in a row that left `begin` without an answer
  #until = 0; // when the code runs out, in Unix milliseconds
  #retryAt = 0; // when the next try is due, likewise
  #ticking = 0;

  constructor() {
    super();
    this.#build();
    if (!Object.hasOwn(this, "onlogin")) return;
    const { onlogin } = this; // set by the page before this script had loaded
    delete this.onlogin;
    this.onlogin = onlogin;
  }

  get onlogin() {
    return this.#handler;
  }

  set onlogin(handler) {
    this.#handler = typeof handler === "function" ? handler : null;
  }

  /** As for any element; what a listener of `login` returns is waited for, as with `onlogin`. */
  addEventListener(type, listener, options) {
    super.addEventListener(type, type === "login" ? this.#wrapped(listener) : listener, options);
  }

  removeEventListener(type, listener, options) {
    super.removeEventListener(type, type === "login" ? this.#wrapped(listener) : listener, options);
  }

  #wrapped(listener) {
    if (typeof listener !== "function") return listener;
    if (!this.#wrappers.has(listener)) {
      this.#wrappers.set(listener, (event) => {
        if (!(event instanceof TokenEvent)) return listener.call(this, event); // an event of the page's own
        event.waitUntil(new Promise((resolve) => resolve(listener.call(this, event))));
      });
    }
    return this.#wrappers.get(listener);
  }

  connectedCallback() {
    if (this.#ticking) return; // only moved within the page: the login goes on
    this.#ticking = setInterval(() => this.#tick(), 1000);
    this.#start();
  }

  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected) return;
      clearInterval(this.#ticking);
      this.#ticking = 0;
      this.#stop();
    });
  }

  attributeChangedCallback(name, before, now) {
    if (name === "lang") this.#render();
    else if (this.#ticking && before !== now) {
      this.#polls = false;
      this.#start();
    }
  }

  /** Show a new code; the one on the screen, if any, is cancelled. */
  refresh() {
    if (this.#view === "unreachable") this.#spinOffline();
    if (this.#socket?.connected) this.#begin();
    else this.#start();
  }

  // ---- the screen ----

  #build() {
    const [svg, path] = makeIcon();
    const p = (this.#parts = {
      path,
      image: make("img", { className: "code", draggable: false, onload: () => this.#drawn(true), onerror: () => this.#undrawn() }),
      button: make("button", { className: "button", type: "button", onclick: () => this.refresh() }),
      title: make("p", { className: "title" }),
      hint: make("p", { className: "hint" }),
      timer: make("p", { className: "timer" }),
      register: make("a", { className: "button register", target: "_blank", rel: "noopener noreferrer" }),
      link: make("button", { className: "link", type: "button", onclick: () => this.refresh() }),
    });
    p.timer.setAttribute("role", "timer"); // a timer is read when asked for, never announced by itself
    p.veil = make("div", { className: "veil" }, make("span", { className: "badge" }, svg), p.button);
    p.frame = make("div", { className: "frame" }, p.image, p.veil);
    p.status = make("div", { className: "status" }, p.title, p.hint);
    p.status.setAttribute("role", "status");
    p.status.setAttribute("aria-live", "polite");
    p.card = make("div", { className: "card", tabIndex: -1 }, p.frame, p.status, p.timer, p.register, p.link);
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLES];
    root.append(p.card);
    this.#render();
  }

  #show(view) {
    const focused = this.shadowRoot.activeElement;
    this.#view = view;
    if (view === "loading") this.#drawn(false);
    this.#render();
    // A pressed button that vanishes would drop a keyboard user back to the top of the page.
    if (focused && !focused.checkVisibility?.()) this.#parts.card.focus();
  }

  #render() {
    const p = this.#parts;
    const view = VIEWS[this.#view];
    const language = this.#language();
    const texts = TEXTS[language];
    p.card.lang = language;
    p.card.className = `card ${view.tone ?? ""} ${view.icon === "spin" ? "spin" : ""}`;
    p.card.dataset.view = this.#view;
    p.card.setAttribute("aria-busy", String(Boolean(view.busy)));
    p.image.alt = texts.alt;
    p.image.hidden = !p.image.src || Boolean(view.blank);
    p.veil.hidden = !view.icon;
    p.path.setAttribute("d", ICONS[view.icon] ?? "");
    [p.title.textContent, p.hint.textContent] = texts[this.#view];
    p.button.hidden = !view.button;
    p.button.textContent = texts[view.button] ?? "";
    p.link.hidden = !view.link;
    p.link.textContent = texts[view.link] ?? "";
    p.register.hidden = this.#view !== "unregistered" || !this.#login?.registerUrl;
    p.register.textContent = texts.register;
    if (!p.register.hidden) p.register.href = this.#login.registerUrl;
    this.#renderTimer();
  }

  #renderTimer() {
    const { timer } = VIEWS[this.#view];
    const end = timer === "retries" ? this.#retryAt : this.#until;
    const seconds = Math.max(0, Math.ceil((end - Date.now()) / 1000));
    this.#parts.timer.textContent = timer ? TEXTS[this.#language()][timer](clock(seconds)) : "";
  }

  #language() {
    const wanted = this.closest("[lang]:not([lang=''])")?.lang ?? navigator.language;
    return /^zh\b/i.test(wanted) ? "zh-CN" : "en";
  }

  #drawn(drawn) {
    this.#parts.frame.classList.toggle("drawn", drawn);
  }

  #undrawn() {
    if (!this.#login) return;
    this.#stop();
    this.#report({ error: "code_unreachable", error_description: "the picture of the code did not load" });
    this.#show("picture");
  }

  #tell(name, detail = {}) {
    this.dispatchEvent(new CustomEvent(`scan-login-${name}`, { detail, bubbles: true, composed: true }));
  }

  /** Tell the page and its developer what failed.  The person sees only the widget's own, translated texts. */
  #report({ error, error_description }, ...details) {
    console.warn(`scan-login: ${error}: ${error_description}`, ...details);
    this.#tell("error", { error, error_description });
  }

  #tick() {
    this.#renderTimer();
    // A push that never came must not leave a dead code on the screen: the broker knows, so ask.
    if (VIEWS[this.#view].live && Date.now() > this.#until + OVERDUE_MS && this.#socket?.connected) this.#resume();
    if (this.#view === "offline" && Date.now() > this.#offlineUntil) this.#show("unreachable");
  }

  // ---- one login, start to finish ----

  #broker() {
    return this.getAttribute("broker") || (SOURCE ? new URL(".", SOURCE).href : location.origin);
  }

  /** Where `path` of the broker is, null if nowhere; a broker may live under a prefix of another site. */
  #at(path) {
    try {
      const { origin, pathname } = new URL(this.#broker(), document.baseURI);
      const whole = pathname.replace(/\/+$/, "") + path;
      return { url: origin + whole, origin, path: whole };
    } catch {
      return null;
    }
  }

  #app() {
    return this.getAttribute("app") || "default";
  }

  async #start() {
    this.#stop();
    if (!["offline", "unreachable"].includes(this.#view)) this.#show("loading");
    if (!this.#at("/")) return this.#end("refused"); // the attribute `broker` is no address
    if (this.#polls) return this.#poll();
    const turn = this.#turn;
    this.#fallBackLater();
    const io = await loadClient(this.#at("/socket.io/socket.io.esm.min.js").url).catch(() => null);
    if (turn !== this.#turn) return;
    if (io) this.#open(io);
    else this.#poll();
  }

  /** Some proxies swallow WebSocket upgrades without an answer: poll beside the socket, and keep what works first. */
  async #fallBackLater() {
    const turn = this.#turn;
    await sleep(FALLBACK_DELAY);
    if (turn === this.#turn) this.#poll();
  }

  /** Give up whatever is under way; a login still alive is cancelled, so nobody can confirm it any more. */
  #stop() {
    if (this.#login && this.#socket?.connected) this.#socket.emit("cancel", this.#proof());
    this.#hangUp();
    this.#forget();
  }

  #hangUp() {
    this.#socket?.off().disconnect();
    this.#socket = null;
  }

  #forget() {
    this.#login = null;
    this.#turn = {};
  }

  #end(view) {
    this.#hangUp(); // an ended login needs no socket: a forgotten tab costs the broker nothing
    this.#forget();
    this.#show(view);
  }

  #proof() {
    return { login_id: this.#login.id, secret: this.#login.secret };
  }

  #adopt({ login_id, scene, secret, code_url, expires_in, interval = WAIT_SECONDS }) {
    this.#login = { id: login_id, secret, interval, state: "pending" };
    this.#until = Date.now() + expires_in * 1000;
    this.#drawn(false);
    this.#parts.image.src = code_url;
    this.#show("code");
    this.#tell("begun", { login_id, scene, expires_in });
  }

  /** Bring the screen to `state`; the one place where a push, a resume and a poll meet. */
  #follow(state, { register_url, expires_in } = {}) {
    const news = this.#login.state !== state;
    this.#login.state = state;
    if (expires_in !== undefined) this.#until = Date.now() + expires_in * 1000;
    if (state === "confirmed") return this.#redeem();
    if (state === "pending") return this.#show("code");
    if (!["scanned", "unregistered", "denied", "expired"].includes(state)) return this.#again(); // ended elsewhere
    if (state === "expired" && Date.now() < this.#until - EARLY_MS) return this.#again(); // the broker lost it
    if (state === "unregistered") this.#login.registerUrl = webAddress(register_url);
    if (state === "denied" || state === "expired") this.#end(state);
    else this.#show(state);
    if (news) this.#tell(state);
    if (state === "unregistered" && expires_in === undefined && this.#socket) this.#resume(); // a push names no time
  }

  #again() {
    return this.#polls ? this.#restartPolling() : this.#begin();
  }

  /** Hand the token to the page, and show "signing in" until the page has used it. */
  async #finish({ access_token, token_type, expires_in, subject }) {
    const delivery = new Delivery({ access_token, token_type, expires_in, subject });
    this.#end("confirmed");
    const turn = this.#turn;
    try {
      await within(HANDLER_TIMEOUT, this.#offer(delivery));
      if (turn === this.#turn) this.#settle(delivery);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#report({ error: "login_rejected", error_description: String(error?.message ?? error) }, error);
      this.#show("rejected");
    }
  }

  /** Give the token to listeners and handler; returns a promise of all that they do with it. */
  async #offer(delivery) {
    this.dispatchEvent(new TokenEvent("login", delivery));
    this.dispatchEvent(new TokenEvent("scan-login-token", delivery, { bubbles: true, composed: true }));
    const handled = this.#handler?.(delivery.take());
    await Promise.all([handled, ...delivery.promises]);
  }

  #settle({ taken }) {
    if (taken) return this.#show("done");
    this.#report({
      error: "login_unhandled",
      error_description: this.hasAttribute("onlogin")
        ? "the attribute onlogin holds text, which is not run; set the property onlogin to a function"
        : "no handler took the token; set the property onlogin, or listen for the event login",
    });
    this.#show("unhandled");
  }

  /** Show that it failed.  After a passing trouble `retry` runs, when the server said to. */
  #fail(answer, retry) {
    this.#report(answer);
    if (!WAIT.has(answer.error)) return this.#end(HOPELESS.has(answer.error) || !retry ? "refused" : "error");
    this.#pause(waitFor(answer), retry);
    this.#show("waiting");
  }

  async #pause(seconds, retry) {
    const turn = this.#turn;
    this.#retryAt = Date.now() + seconds * 1000;
    await sleep(seconds);
    if (turn === this.#turn) retry();
  }

  #lost() {
    if (this.#offline) return;
    this.#offline = true;
    this.#spinOffline();
    this.#tell("offline");
  }

  #spinOffline() {
    this.#offlineUntil = Date.now() + OFFLINE_TIMEOUT_MS;
    this.#show("offline");
  }

  #back() {
    if (!this.#offline) return;
    this.#offline = false;
    this.#tell("online");
  }

  // ---- by WebSocket ----

  #open(io) {
    const { origin, path } = this.#at("/socket.io/");
    const options = { path, transports: ["websocket"], auth: { app: this.#app() }, forceNew: true, timeout: ACK_MS };
    const socket = (this.#socket = io(`${origin}/login`, options));
    let failures = 0;
    socket.on("connect", () => { failures = 0; this.#back(); this.#enter(); });
    socket.on("connect_error", ({ data }) => {
      if (data?.error) this.#refused(data);
      else if (++failures >= 2) this.#login ? this.#pollInstead() : this.#poll();
    });
    socket.on("disconnect", (reason) => {
      this.#lost();
      // Socket.IO reconnects by itself, but not after the server closed the socket on purpose (a drain).
      if (reason === "io server disconnect") this.#pause(1 + Math.random(), () => socket.connect());
    });
    for (const state of ["scanned", "confirmed", "denied", "unregistered", "expired"]) {
      socket.on(`login-${state}`, (push) => {
        if (this.#login && push.login_id === this.#login.id) this.#follow(state, push); // else an earlier code's
      });
    }
  }

  /** The broker turned us away at CONNECT: only a passing trouble is worth knocking again. */
  #refused(data) {
    this.#back();
    this.#turn = {}; // the broker has answered: no polling beside this socket
    this.#fail(data, WAIT.has(data.error) ? () => this.#socket.connect() : null);
  }

  #enter() {
    return this.#login ? this.#resume() : this.#begin();
  }

  /** The ack of `event`, or null when it was lost or nobody wants it now; the reconnect then takes over. */
  async #ask(event, payload) {
    const [socket, turn] = [this.#socket, this.#turn];
    try {
      const answer = await socket.timeout(ACK_MS).emitWithAck(event, payload);
      this.#unanswered = 0;
      return turn === this.#turn ? answer : null;
    } catch {
      if (turn === this.#turn && socket.connected) this.#reconnect();
      return null;
    }
  }

  /** The socket is open and leaves a question without an answer. */
  #reconnect() {
    if (this.#login || ++this.#unanswered < BEGIN_ATTEMPTS) return this.#socket.disconnect().connect();
    this.#unanswered = 0;
    this.#fail({ error: "unanswered", error_description: "the broker does not answer on its open socket" }, () => {});
  }

  async #begin() {
    this.#forget();
    this.#show("loading");
    const answer = await this.#ask("begin", {});
    if (answer?.error) this.#fail(answer, () => this.refresh());
    else if (answer) this.#adopt(answer);
  }

  async #resume() {
    const login = this.#login;
    if (login.asking) return;
    login.asking = true;
    const answer = await this.#ask("resume", this.#proof());
    login.asking = false;
    if (!answer) return;
    if (answer.error) return this.#denied(answer);
    const unfinished = answer.state === "pending" || answer.state === "scanned";
    const ended = unfinished && answer.expires_in <= 0;
    this.#follow(ended ? "expired" : answer.unregistered ? "unregistered" : answer.state, answer);
  }

  async #redeem() {
    const login = this.#login;
    if (login.redeeming) return; // the push and the answer to `resume` may both say "confirmed"
    login.redeeming = true;
    this.#show("confirmed");
    const answer = await this.#ask("redeem", this.#proof());
    login.redeeming = false;
    if (answer?.error) this.#denied(answer);
    else if (answer) this.#finish(answer);
  }

  /** A refusal of `resume`, `redeem` or a poll, for the login on the screen. */
  #denied(answer) {
    if (answer.error === "invalid_grant") return this.#again(); // forgotten by the broker, or used up
    if (answer.error === "expired_token") return this.#follow("expired");
    if (answer.error === "access_denied") return this.#follow("denied");
    if (answer.error === "authorization_pending") return this.#resume(); // a failed server took the confirm with it
    this.#fail(answer, () => (this.#socket?.connected ? this.#enter() : this.#socket?.connect()));
  }

  // ---- by polling: RFC 8628 ----

  /** Begin a login by a plain request.  If a socket opens first, the request's login is cancelled. */
  async #poll() {
    const turn = this.#turn;
    if (turn.polled) return; // asked already
    turn.polled = true;
    const answer = await this.#post("/oauth/device_authorization", { client_id: this.#app() });
    const [login_id, secret] = answer?.device_code?.split(".") ?? [];
    if (turn !== this.#turn) return this.#discard({ login_id, secret });
    if (!answer) return this.#unreachable();
    this.#back();
    if (answer.error) return this.#fail(answer, () => this.#start());
    this.#hangUp();
    this.#forget();
    this.#polls = true;
    this.#adopt({ ...answer, scene: answer.user_code, secret });
    this.#keepPolling();
  }

  #restartPolling() {
    this.#forget();
    this.#poll();
  }

  /** Cancel a login that is not shown; without a socket it ends with its time. */
  #discard(proof) {
    if (proof.secret && this.#socket?.connected) this.#socket.emit("cancel", proof);
  }

  /** The socket does not come back: go on polling for the same login, if plain requests get through. */
  async #pollInstead() {
    const turn = this.#turn;
    const answer = await this.#token();
    if (turn !== this.#turn || !answer || this.#socket?.connected) return; // offline: the socket tries on
    this.#hangUp();
    this.#polls = true;
    this.#heed(answer);
    if (turn === this.#turn) this.#keepPolling();
  }

  async #keepPolling() {
    const turn = this.#turn;
    let [interval, wait] = [this.#login.interval, 0];
    while (turn === this.#turn) {
      await sleep(wait || interval);
      if (turn !== this.#turn) return;
      const next = await this.#token();
      if (turn !== this.#turn) return;
      if (next?.error === "slow_down") interval += 5; // RFC 8628, section 3.5
      wait = this.#heed(next);
    }
  }

  /** Not even a plain request gets out, so it was not the WebSocket: begin from the top in a while. */
  async #unreachable() {
    const turn = this.#turn;
    const foreign = await this.#isForeign();
    if (turn !== this.#turn) return;
    if (foreign) return this.#fail(FOREIGN, null);
    this.#polls = false;
    this.#lost();
    this.#pause(waitFor({}), () => this.#start());
  }

  /** Whether the broker is there and only hides its answers: this page's Origin is not on the app's list. */
  async #isForeign() {
    const options = { mode: "no-cors", signal: deadline() };
    const alive = await fetch(this.#at("/health/live").url, options).catch(() => null);
    return alive !== null && (await this.#post("/oauth/token", {})) === null;
  }

  #token() {
    return this.#post("/oauth/token", {
      grant_type: "urn:ietf:params:oauth:grant-type:device_code",
      device_code: `${this.#login.id}.${this.#login.secret}`, client_id: this.#app(),
    });
  }

  /** Act on the token endpoint's `answer`; returns seconds to wait before the next, 0 for the usual. */
  #heed(answer) {
    if (!answer) return this.#lost(), waitFor({});
    const returned = this.#offline;
    this.#back();
    if (answer.access_token) return this.#finish(answer), 0;
    if (WAIT.has(answer.error)) return waitFor(answer);
    const state = answer.state ?? this.#login.state;
    if (["authorization_pending", "slow_down"].includes(answer.error)) {
      if (returned || state !== this.#login.state) this.#follow(state, answer);
    } else this.#denied(answer);
    return 0;
  }

  /** POST a form; the JSON answer, or null when the broker could not be reached. */
  async #post(path, form) {
    try {
      const body = new URLSearchParams(form);
      const options = { method: "POST", mode: "cors", credentials: "omit", body, signal: deadline() };
      return await (await fetch(this.#at(path).url, options)).json();
    } catch {
      return null;
    }
  }
}

if (!customElements.get("scan-login")) customElements.define("scan-login", ScanLogin);
})();
