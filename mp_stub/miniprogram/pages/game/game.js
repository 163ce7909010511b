// Rock-paper-scissors over a tunnel. The phone authenticates with its session.

const config = require("../../config");
const { request } = require("../../scan-login/http");
const { configured } = require("../../scan-login/index");
const { Session } = require("../../scan-login/session");
const { Tunnel } = require("../../scan-login/tunnel");
const { connectSocket } = require("../../scan-login/wechat_socket");
const { language } = require("../../words");
const { Game } = require("./client");
const { WORDS, speaker } = require("./words");

const TICK_MS = 500;

Page({
  data: { words: {}, shown: { shows: {} }, clock: 0 },

  onLoad() {
    this.say = speaker(language());
    wx.setNavigationBarTitle({ title: this.say("title") });
    this.setData({ words: WORDS[language()] });
    const { broker } = configured();
    this.session = new Session({ broker, app: config.gameApp, proof: config.proof });
    this.game = new Game({
      openTunnel: (handlers) => new Tunnel(Object.assign({
        connect: connectSocket,
        create: () => this.create(),
      }, handlers)),
      onchange: () => this.draw(),
    });
    this.timer = setInterval(() => this.drawClock(), TICK_MS);
    this.draw();
  },

  // WeChat closes the sockets of a mini program in the background.
  onShow() {
    if (this.game) this.game.tunnel.wake();
  },

  onUnload() {
    clearInterval(this.timer);
    this.game.tunnel.close();
  },

  // Ask the site for a tunnel. A session that has ended is replaced once.
  async create() {
    const session = await this.session.current();
    try {
      return await this.createWith(session);
    } catch (failure) {
      if (failure.error !== "invalid_session") throw failure;
    }
    return this.createWith(await this.session.after(session));
  },

  createWith({ id, skey }) {
    const header = { "X-WX-Id": id, "X-WX-Skey": skey };
    return request("POST", `${config.site}/game/tunnel`, { header });
  },

  draw() {
    if (!this.game) return;
    this.setData({ shown: this.game.draw(this.say) });
    this.drawClock();
  },

  // Per cent of the round that are left.
  drawClock() {
    const { view, leftMs } = this.game;
    const clock = view.phase === "choosing" ? Math.round((100 * leftMs) / view.choose_ms) : 0;
    if (clock !== this.data.clock) this.setData({ clock });
  },

  choose({ currentTarget }) {
    this.game.choose(currentTarget.dataset.hand);
  },

  play() {
    this.game.act({ act: "play" });
  },

  again() {
    this.game.act({ act: "again" });
  },

  leave() {
    this.game.act({ act: "leave" });
  },

  here() {
    this.game.start();
    this.draw();
  },
});
